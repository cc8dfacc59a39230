"""The port through which the listener hands over what it has received, and what it may expect from the other side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dicom_io.errors import DicomError
from dicom_io.types import (
    CommitmentReport,
    InstanceHeader,
    KnownInstance,
    Peer,
    Refusal,
    Registration,
    Replacement,
    StoredFile,
)


class IntakeUnavailable(DicomError):
    """The record cannot be made now (database locked, full, unreachable). The sender is told to try again later."""

    code = "intake_unavailable"
    retryable = True


class RecordRefused(IntakeUnavailable):
    """The database is there and does not take this record. The sender is told to try again later, too."""

    code = "record_refused"


class CommitmentRefused(DicomError):
    """A storage commitment result came from somebody else than the peer that was asked; nothing was changed."""

    code = "commitment_foreign"


class Intake(Protocol):
    """Where received instances, refusals and commitments are recorded.

    Every method is called from many threads at once, returns only when its record is durable, and raises
    IntakeUnavailable when it cannot be made now; no other exception is expected but the one that `commitment` names.
    """

    def register(self, header: InstanceHeader, stored: StoredFile, peer: Peer) -> Registration:
        """Record an instance whose file is durable already.

        NEW: it was unknown. DUPLICATE: the same SOP Instance UID with the same digest is on record. RESTORED: so
        it is, and its file had been deleted; from now on nobody deletes it, but that may have happened after the file
        was stored, so the listener looks once more. CONFLICT: the same SOP Instance UID is on record with another
        digest or in another study, and nothing was changed; the listener then asks what is `known` of it, compares, and
        refuses it or has it `replace` that.
        """

    def known(self, sop_instance_uid: str) -> KnownInstance | None:
        """Return what is on record for an instance, None where nothing is."""

    def replace(self, header: InstanceHeader, stored: StoredFile, peer: Peer, replacement: Replacement) -> bool:
        """Let an instance whose file is durable already take the place of the one on record, and record both.

        False where that one is not as it was any more, and nothing was changed.
        """

    def remove_replaced(self, sop_instance_uid: str, stored: StoredFile, discard: Callable[[StoredFile], None]) -> None:
        """Have a file removed that was replaced, unless it is the one on record again; nobody replaces it meanwhile."""

    def reject(self, rejection: Refusal) -> None:
        """Record that something was refused, and why."""

    def commitment(self, report: CommitmentReport, peer: Peer) -> None:
        """Record an answer to a storage commitment request, if it comes from whom was asked.

        An unknown transaction is no error: record that and return.

        Raises
        ------
        CommitmentRefused
            When it is about a request that went to another peer.
        """
