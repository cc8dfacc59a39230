import pytest
from pydicom.dataset import Dataset

from dicom_io.errors import HeaderError
from dicom_io.send.commitment import ALL_COMMITTED, FAILURES_EXIST, PROCESSING_FAILURE, parse_event_report


def event(transaction: str = "1.2.3", committed: tuple[str, ...] = (), failed: tuple[tuple[str, int | None], ...] = ()):
    ds = Dataset()
    ds.TransactionUID = transaction
    ds.ReferencedSOPSequence = []
    for uid in committed:
        item = Dataset()
        item.ReferencedSOPInstanceUID = uid
        ds.ReferencedSOPSequence.append(item)
    if failed:
        ds.FailedSOPSequence = []
    for uid, reason in failed:
        item = Dataset()
        item.ReferencedSOPInstanceUID = uid
        if reason is not None:
            item.FailureReason = reason
        ds.FailedSOPSequence.append(item)
    return ds


def test_a_successful_event_names_every_committed_instance():
    report = parse_event_report(event(committed=("1.2.4", "1.2.5")), ALL_COMMITTED)
    assert report.transaction_uid == "1.2.3"
    assert report.committed == ("1.2.4", "1.2.5")
    assert report.failed == ()


def test_failures_carry_their_reason():
    report = parse_event_report(event(committed=("1.2.4",), failed=(("1.2.5", 0x0112),)), FAILURES_EXIST)
    assert report.committed == ("1.2.4",)
    assert report.failed == (("1.2.5", 0x0112),)


def test_a_failure_without_a_reason_is_still_a_failure():
    report = parse_event_report(event(failed=(("1.2.5", None),)), FAILURES_EXIST)
    assert report.failed == (("1.2.5", PROCESSING_FAILURE),)


@pytest.mark.parametrize("event_type", [ALL_COMMITTED, FAILURES_EXIST])
def test_an_instance_named_both_ways_counts_as_failed(event_type):
    report = parse_event_report(event(committed=("1.2.4",), failed=(("1.2.4", 0x0110),)), event_type)
    assert report.committed == ()
    assert report.failed == (("1.2.4", 0x0110),)


def test_an_instance_named_twice_is_committed_once():
    assert parse_event_report(event(committed=("1.2.4", "1.2.4")), ALL_COMMITTED).committed == ("1.2.4",)


@pytest.mark.parametrize("event_type", [0, 3, 65535])
def test_an_event_type_of_another_service_is_refused(event_type):
    with pytest.raises(HeaderError, match="event type"):
        parse_event_report(event(committed=("1.2.4",)), event_type)


def test_a_missing_transaction_uid_is_refused():
    ds = event(committed=("1.2.4",))
    del ds.TransactionUID
    with pytest.raises(HeaderError, match="TransactionUID"):
        parse_event_report(ds, ALL_COMMITTED)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")  # pydicom warns of what the test is about
@pytest.mark.parametrize("uid", ["", "../../etc/passwd", "1.2." + "3" * 70, ["1.2.3", "1.2.4"]])
def test_a_malformed_instance_uid_is_refused(uid):
    with pytest.raises(HeaderError, match="ReferencedSOPInstanceUID"):
        parse_event_report(event(committed=(uid,)), ALL_COMMITTED)


def test_a_sequence_that_is_text_is_refused():
    ds = Dataset()
    ds.TransactionUID = "1.2.3"
    ds.add_new("ReferencedSOPSequence", "LO", "text")
    with pytest.raises(HeaderError, match="ReferencedSOP"):
        parse_event_report(ds, ALL_COMMITTED)
