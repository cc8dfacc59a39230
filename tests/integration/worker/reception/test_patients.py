"""A patient who is corrected while the study is here: what waits, what resolves by itself, what the report says."""

from __future__ import annotations

import pytest
from pydicom import dcmread
from sqlalchemy import select

from dicom_io.receive.reception import SUCCESS
from tests.builders import build_cr, build_dx, build_sc, ramp
from tests.databases import kinds, only
from tests.fakes_worker import VERSION
from tests.integration.worker.reception.test_identity import FETCHED, Door
from worker.db.tables import Instance, Job, ReplacedInstance, Report, Study, utc_now
from worker.errors import StudyHeld
from worker.operate.purge import purge
from worker.operate.retries import retry_failed, retry_study
from worker.operate.status import snapshot
from worker.study.patients import MIXED_PATIENTS
from worker.study.plan import MIXED_PATIENTS as OF_JOBS

STRUCTURED_REPORT = "1.2.840.10008.5.1.4.1.1.88.33"
TEMPORARY, REAL = "EMERGENCY-1", "MRN-77"


@pytest.fixture
def door(database, clock, tmp_path):
    return Door(database, clock, tmp_path)


def image(number=1, patient=TEMPORARY, **words):
    return build_dx(instance=str(number), pixels=ramp(40, 48 + number), PatientID=patient, **words)


def document(patient, **words):
    """Return a structured report of the study; its header is what matters here."""
    ds = build_cr(instance="document", PatientID=patient, SOPClassUID=STRUCTURED_REPORT, Modality="SR", **words)
    del ds.PixelData
    return ds


def told(door, number=-1):
    """Return what a report says, the newest one unless a number is given."""
    return dcmread(door.store.path(door.all(Report)[number].path))


class Queue:
    """A broker that answers."""

    def lengths(self):
        return {}


def status(door):
    return snapshot(door.database, Queue(), door.clock())


def test_a_corrected_patient_gets_a_report_of_their_own_that_names_the_one_before(door):
    door.answer(image())
    assert told(door).PatientID == TEMPORARY

    assert door.send(image(patient=REAL, PatientName="REAL^NAME")) == SUCCESS

    (job_id,) = door.close()
    door.analyse(job_id)
    report = told(door)
    assert (report.PatientID, str(report.PatientName)) == (REAL, "REAL^NAME")
    (before,) = report.PredecessorDocumentsSequence
    named = before.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == told(door, 0).SOPInstanceUID
    assert only(door.database, Study).patient_id == REAL


def test_a_late_image_of_another_patient_makes_the_study_wait_and_not_fail(door):
    door.answer(image(1))

    assert door.send(image(2, REAL)) == SUCCESS

    assert door.close() == ()
    study = only(door.database, Study)
    assert (study.state, study.held_reason) == ("complete", MIXED_PATIENTS)
    assert [job.outcome for job in door.all(Job)] == ["absent"], "nothing has failed, nothing is analysed"
    (held,) = status(door).held_studies
    assert (held.study_instance_uid, held.reason, held.reported) == (study.study_instance_uid, MIXED_PATIENTS, True)
    assert REAL not in str(held)
    assert kinds(door.database).count("held") == 1


def test_it_resolves_by_itself_when_the_older_images_are_sent_again_corrected(door):
    door.answer(image(1))
    door.send(image(2, REAL))
    door.close()

    assert door.send(image(1, REAL)) == SUCCESS

    (job_id,) = door.close()
    door.analyse(job_id)
    assert only(door.database, Study).held_reason is None
    assert [job.outcome for job in door.all(Job)] == ["absent", "absent"]
    assert told(door).PatientID == REAL
    assert "PredecessorDocumentsSequence" in told(door)
    assert status(door).held == 0
    assert kinds(door.database).count("released") == 1


def test_it_resolves_also_when_the_late_image_was_the_wrong_one(door):
    door.answer(image(1))
    door.send(image(2, REAL))
    door.close()
    door.send(image(2, TEMPORARY))
    (job_id,) = door.close()
    door.analyse(job_id)
    assert told(door).PatientID == TEMPORARY
    assert door.all(Job)[-1].outcome == "absent"


def test_a_study_of_which_only_some_images_are_corrected_waits_for_the_others(door):
    for number in (1, 2, 3):
        door.send(image(number))
    (job_id,) = door.close()
    door.analyse(job_id)
    for number in (1, 2):
        door.send(image(number, REAL))
    assert door.close() == ()
    assert status(door).held == 1
    door.send(image(3, REAL))
    (job_id,) = door.close()
    door.analyse(job_id)
    assert told(door).PatientID == REAL
    assert len(door.all(ReplacedInstance)) == 3


@pytest.mark.parametrize(
    "other", [document(REAL), build_sc(instance="letter", PatientID=REAL)], ids=["report", "secondary capture"]
)
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_foreign_object_that_is_no_image_of_the_patient_blocks_nothing(door, other, order):
    objects = [image(1), other] if order == "after" else [other, image(1)]
    assert [door.send(each) for each in objects] == [SUCCESS, SUCCESS]
    (job_id,) = door.close()
    door.analyse(job_id)
    assert door.all(Job)[0].outcome == "absent"
    assert told(door).PatientID == TEMPORARY
    assert only(door.database, Study).patient_id == TEMPORARY
    assert "patient_differs" not in kinds(door.database)


def test_another_acquired_image_that_is_not_analysed_makes_the_study_wait_too(door):
    door.answer(image(1))
    chest = image(2, REAL, BodyPartExamined="CHEST", AnatomicRegionSequence=None)
    assert door.send(chest) == SUCCESS
    assert door.close() == ()
    assert status(door).held == 1

    corrected = image(2, TEMPORARY, BodyPartExamined="CHEST", AnatomicRegionSequence=None)
    assert door.send(corrected) == SUCCESS
    assert door.close() == (), "the answer that was there stands"
    assert status(door).held == 0


def test_two_issuers_of_one_patient_id_are_two_patients(door):
    door.send(image(1, IssuerOfPatientID="NORTH"))
    door.send(image(2))
    door.send(image(3, IssuerOfPatientID="SOUTH"))
    assert door.close() == ()
    door.send(image(3, IssuerOfPatientID="NORTH"))
    assert len(door.close()) == 1, "one without an issuer names none in particular"


def test_a_name_that_is_spelled_otherwise_is_the_same_patient_and_the_report_takes_the_newest(door):
    door.answer(image(1, PatientName="MUELLER^ANNA"))
    assert door.send(image(2, PatientName="MÜLLER^ANNA")) == SUCCESS
    (job_id,) = door.close()
    door.analyse(job_id)
    assert str(told(door).PatientName) == "MÜLLER^ANNA"


def test_a_structured_report_that_comes_again_with_the_corrected_patient_is_taken(door):
    door.answer(image(1))
    assert door.send(document(TEMPORARY)) == SUCCESS
    assert door.send(document(REAL)) == SUCCESS
    assert door.send(document(REAL)) == SUCCESS
    assert (door.close(), len(door.files()), len(door.all(ReplacedInstance))) == ((), 2, 1)


def test_what_waits_is_neither_retried_nor_purged(door):
    door.answer(image(1))
    door.send(image(2, REAL))
    door.close()
    uid = only(door.database, Study).study_instance_uid

    with pytest.raises(StudyHeld, match="send the older images again"):
        retry_study(door.database, uid, model_version=VERSION)
    assert retry_failed(door.database, model_version=VERSION) == ()
    assert list(purge(door.database, door.store, utc_now(), by="a test")) == []
    assert len(door.files()) == 2


def test_a_job_that_failed_because_two_patients_were_there_is_done_again_when_they_are_one(door):
    door.send(image(1))
    (job_id,) = door.close()
    chest = {"BodyPartExamined": "CHEST", "AnatomicRegionSequence": None}
    door.send(image(2, REAL, **chest))
    door.analyse(job_id)
    assert [(job.outcome, job.reason) for job in door.all(Job)] == [("failed", OF_JOBS)]
    assert door.close() == ()

    door.send(image(2, TEMPORARY, **chest))

    (again,) = door.close()
    door.analyse(again)
    assert [job.outcome for job in door.all(Job)] == ["failed", "absent"]


def test_an_image_that_is_corrected_out_of_scope_leaves_an_answer_about_the_others(door):
    door.answer(image(1))
    door.send(image(2))
    (job_id,) = door.close()
    door.analyse(job_id)

    door.send(image(2, BodyPartExamined="CHEST", AnatomicRegionSequence=None))

    (job_id,) = door.close()
    door.analyse(job_id)
    assert len(door.all(Report)) == 3
    with door.database.read() as session:
        assert len(session.scalars(select(Instance.id).where(Instance.out_of_scope_reason.is_(None))).all()) == 1


def test_a_study_from_the_archive_that_waits_is_released_by_its_next_retrieval(door):
    for number, patient in ((1, TEMPORARY), (2, REAL)):
        door.send(image(number, patient), FETCHED)
    assert door.close() == ()
    door.purge()
    for number in (1, 2):
        assert door.send(image(number, REAL), FETCHED) == SUCCESS
    (job_id,) = door.close()
    door.analyse(job_id)
    assert told(door).PatientID == REAL
