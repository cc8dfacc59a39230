"""The PACS port over the network: nothing but dicom_io's functions under one name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dicom_io.send import commitment, sender
from dicom_io.send.sender import SendReceipt
from dicom_io.types import CommitmentReport, Destination, ReportReference


class RemotePacs:
    """A destination reached by DIMSE. See `worker.delivery.delivery.Pacs`."""

    def send_report(self, destination: Destination, report: Path, fallback: Callable[[], Path]) -> SendReceipt:
        """Store the report, or its fallback form."""
        return sender.send_report(destination, report, fallback)

    def send_companion(self, destination: Destination, companion: Path) -> SendReceipt:
        """Store a marked image or a presentation state."""
        (receipt,) = sender.send(destination, [companion])
        return receipt

    def request_commitment(
        self,
        destination: Destination,
        references: Sequence[ReportReference],
        transaction_uid: str,
        wait_seconds: float,
    ) -> CommitmentReport | None:
        """Ask for storage commitment."""
        return commitment.request_commitment(destination, references, transaction_uid, wait_seconds)

    def find_instance(self, destination: Destination, reference: ReportReference) -> bool:
        """Ask whether the PACS holds an instance."""
        return sender.find_instance(destination, reference)
