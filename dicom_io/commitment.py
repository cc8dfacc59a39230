"""Storage commitment: asking a PACS to take over the safekeeping of what was sent to it (PS3.4 Annex J)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_io.errors import HeaderError
from dicom_io.types import CommitmentReport
from dicom_io.uids import is_safe_uid

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL_COMMITTED = 1
"""Event Type ID: Storage Commitment Request Successful (PS3.4 J.3.3.1.1)."""
FAILURES_EXIST = 2
"""Event Type ID: Storage Commitment Request Complete - Failures Exist (PS3.4 J.3.3.1.2)."""
PROCESSING_FAILURE = 0x0110
"""Failure Reason of an item that carries none (PS3.3 C.14.1.1)."""


def parse_event_report(dataset: Dataset, event_type: int) -> CommitmentReport:
    """Read the Event Information of a storage commitment N-EVENT-REPORT.

    An instance that is named as committed and as failed at once counts as failed, whatever the event type says.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        The decoded Event Information.
    event_type : int
        The Event Type ID of the N-EVENT-REPORT request.

    Returns
    -------
    dicom_io.types.CommitmentReport
        Instances in the order in which the PACS names them, each once.

    Raises
    ------
    dicom_io.errors.HeaderError
        When the event type is not one of storage commitment's or a UID is missing or malformed.

    References
    ----------
    PS3.4 Table J.3-2, Event Information.
    """
    if event_type not in (ALL_COMMITTED, FAILURES_EXIST):
        raise HeaderError(f"event type {event_type} is not one of storage commitment (1 or 2)")
    transaction_uid = _uid(dataset, "TransactionUID")
    failed = {
        _uid(item, "ReferencedSOPInstanceUID"): _failure_reason(item) for item in _items(dataset, "FailedSOPSequence")
    }
    named = (_uid(item, "ReferencedSOPInstanceUID") for item in _items(dataset, "ReferencedSOPSequence"))
    committed = dict.fromkeys(uid for uid in named if uid not in failed)
    return CommitmentReport(transaction_uid, tuple(committed), tuple(failed.items()))


def _items(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    try:
        items = list(dataset.get(keyword) or ())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise HeaderError(f"{keyword} of the storage commitment answer cannot be read") from error
    if not all(isinstance(item, Dataset) for item in items):
        raise HeaderError(f"{keyword} of the storage commitment answer is not a sequence")
    yield from items


def _uid(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if value is None or isinstance(value, MultiValue) or not is_safe_uid(str(value)):
        raise HeaderError(f"{keyword} of the storage commitment answer is missing or not a UID")
    return str(value)


def _failure_reason(item: Dataset) -> int:
    value = item.get("FailureReason")
    return value if isinstance(value, int) else PROCESSING_FAILURE
