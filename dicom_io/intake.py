"""The port through which the listener hands over what it has received, and what it may expect from the other side."""

from __future__ import annotations

from typing import Protocol

from dicom_io.errors import DicomError
from dicom_io.types import CommitmentReport, InstanceHeader, Peer, Registration, Rejection, StoredFile


class IntakeUnavailable(DicomError):
    """The record cannot be made now (database locked, full, unreachable). The sender is told to try again later."""

    code = "intake_unavailable"
    retryable = True


class Intake(Protocol):
    """Where received instances, refusals and commitments are recorded.

    Every method is called from many threads at once, returns only when its record is durable, and raises
    IntakeUnavailable when it cannot be made now; no other exception is expected.
    """

    def register(self, header: InstanceHeader, stored: StoredFile, peer: Peer) -> Registration:
        """Record an instance whose file is durable already.

        NEW: it was unknown. DUPLICATE: the same SOP Instance UID with the same digest is on record. RESTORED: so
        it is, and its file had been deleted; from now on nobody deletes it, but that may have happened after the file
        was stored, so the listener looks once more. CONFLICT: the same SOP Instance UID is on record with another
        digest, and nothing was changed; the listener then asks `existing` whether that is the same object in another
        uncompressed transfer syntax.
        """

    def existing(self, sop_instance_uid: str) -> StoredFile | None:
        """Return the file on record for an instance, None where there is none (any more)."""

    def reject(self, rejection: Rejection) -> None:
        """Record that something was refused, and why."""

    def commitment(self, report: CommitmentReport) -> None:
        """Record an answer to a storage commitment request. An unknown transaction is no error: log and return."""
