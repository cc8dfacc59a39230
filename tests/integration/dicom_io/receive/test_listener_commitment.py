"""A PACS reports on an association of its own what it has committed (PS3.4 J.3.3)."""

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_io.types import CommitmentReport
from tests.fakes import FakeIntake
from tests.listening import LITTLE, associate, listening


def commitment(failed=()):
    information = Dataset()
    information.TransactionUID = "1.2.3.9"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.4"
    information.ReferencedSOPSequence = Sequence([item])
    information.FailedSOPSequence = Sequence(failed)
    return information


def report(running, information, event_type=1):
    """Send an N-EVENT-REPORT as a PACS does: on a new association, on which it proposes to be the SCP."""
    assoc = associate(
        running.port,
        [(StorageCommitmentPushModel, LITTLE)],
        ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
    )
    (context,) = assoc.accepted_contexts
    assert context.as_scp
    try:
        status, _reply = assoc.send_n_event_report(
            information, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    finally:
        assoc.release()
    return status.Status


def test_a_commitment_on_a_new_association_is_recorded_then_answered(tmp_path):
    with listening(tmp_path) as running:
        assert report(running, commitment()) == 0x0000
    assert running.intake.commitments == [CommitmentReport("1.2.3.9", ("1.2.3.4",))]


def test_failures_of_a_commitment_are_recorded_with_their_reasons(tmp_path):
    item = Dataset()
    item.ReferencedSOPInstanceUID, item.FailureReason = "1.2.3.5", 0x0112
    with listening(tmp_path) as running:
        assert report(running, commitment([item]), event_type=2) == 0x0000
    assert running.intake.commitments[0].failed == (("1.2.3.5", 0x0112),)


def test_a_commitment_that_cannot_be_recorded_is_not_acknowledged(tmp_path):
    with listening(tmp_path, FakeIntake(unavailable=True)) as running:
        assert report(running, commitment()) == 0x0213


@pytest.mark.parametrize(("information", "event_type"), [(Dataset(), 1), (commitment(), 3)])
def test_a_malformed_commitment_is_refused_and_recorded(tmp_path, information, event_type):
    information.SpecificCharacterSet = "ISO_IR 100"
    with listening(tmp_path) as running:
        assert report(running, information, event_type) == 0x0115
    assert [each.code for each in running.intake.rejections] == ["commitment_malformed"]


def test_nobody_is_promised_that_we_keep_his_objects(tmp_path):
    with listening(tmp_path) as running:
        assoc = associate(running.port, [(StorageCommitmentPushModel, LITTLE)])
        status, _reply = assoc.send_n_action(
            commitment(), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        assoc.release()
    assert status.Status == 0x0211


def test_a_result_from_somebody_who_was_not_asked_is_refused_and_recorded_once(tmp_path):
    with listening(tmp_path, FakeIntake(answerer="ARCHIVE")) as running:
        assert [report(running, commitment()) for _ in range(2)] == [0x0110, 0x0110]
    (rejection,) = running.intake.rejections
    assert (rejection.code, rejection.status, rejection.peer.ae_title) == ("commitment_foreign", 0x0110, "PACS")
    assert rejection.peer.address == "127.0.0.1"
    assert running.intake.commitments == []
