"""A patient who is corrected while the study is here: what waits, what resolves by itself, what the report says."""

from __future__ import annotations

import pytest
from pydicom import dcmread
from sqlalchemy import select

from dicom_io.receive.reception import SUCCESS
from tests.builders import build_cr, build_dx, build_sc, ramp
from tests.databases import kinds, only
from tests.fakes_worker import VERSION
from tests.integration.worker.reception.test_identity import FETCHED, ReceivingSite
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
def site(database, clock, tmp_path):
    return ReceivingSite(database, clock, tmp_path)


def image(number=1, patient=TEMPORARY, **words):
    return build_dx(instance=str(number), pixels=ramp(40, 48 + number), PatientID=patient, **words)


def document(patient, **words):
    """Return a structured report of the study; its header is what matters here."""
    ds = build_cr(instance="document", PatientID=patient, SOPClassUID=STRUCTURED_REPORT, Modality="SR", **words)
    del ds.PixelData
    return ds


def told(site, number=-1):
    """Return what a report says, the newest one unless a number is given."""
    return dcmread(site.store.path(site.all(Report)[number].path))


class Queue:
    """A broker that answers."""

    def lengths(self):
        return {}


def status(site):
    return snapshot(site.database, Queue(), site.clock())


def test_a_corrected_patient_gets_a_report_of_their_own_that_names_the_one_before(site):
    site.answer(image())
    assert told(site).PatientID == TEMPORARY

    assert site.send(image(patient=REAL, PatientName="REAL^NAME")) == SUCCESS

    (job_id,) = site.close()
    site.analyse(job_id)
    report = told(site)
    assert (report.PatientID, str(report.PatientName)) == (REAL, "REAL^NAME")
    (before,) = report.PredecessorDocumentsSequence
    named = before.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == told(site, 0).SOPInstanceUID
    assert only(site.database, Study).patient_id == REAL


def test_a_late_image_of_another_patient_makes_the_study_wait_and_not_fail(site):
    site.answer(image(1))

    assert site.send(image(2, REAL)) == SUCCESS

    assert site.close() == ()
    study = only(site.database, Study)
    assert (study.state, study.held_reason) == ("complete", MIXED_PATIENTS)
    assert [job.outcome for job in site.all(Job)] == ["absent"], "nothing has failed, nothing is analysed"
    (held,) = status(site).held_studies
    assert (held.study_instance_uid, held.reason, held.reported) == (study.study_instance_uid, MIXED_PATIENTS, True)
    assert REAL not in str(held)
    assert kinds(site.database).count("held") == 1


def test_it_resolves_by_itself_when_the_older_images_are_sent_again_corrected(site):
    site.answer(image(1))
    site.send(image(2, REAL))
    site.close()

    assert site.send(image(1, REAL)) == SUCCESS

    (job_id,) = site.close()
    site.analyse(job_id)
    assert only(site.database, Study).held_reason is None
    assert [job.outcome for job in site.all(Job)] == ["absent", "absent"]
    assert told(site).PatientID == REAL
    assert "PredecessorDocumentsSequence" in told(site)
    assert status(site).held == 0
    assert kinds(site.database).count("released") == 1


def test_it_resolves_also_when_the_late_image_was_the_wrong_one(site):
    site.answer(image(1))
    site.send(image(2, REAL))
    site.close()
    site.send(image(2, TEMPORARY))
    (job_id,) = site.close()
    site.analyse(job_id)
    assert told(site).PatientID == TEMPORARY
    assert site.all(Job)[-1].outcome == "absent"


def test_a_study_of_which_only_some_images_are_corrected_waits_for_the_others(site):
    for number in (1, 2, 3):
        site.send(image(number))
    (job_id,) = site.close()
    site.analyse(job_id)
    for number in (1, 2):
        site.send(image(number, REAL))
    assert site.close() == ()
    assert status(site).held == 1
    site.send(image(3, REAL))
    (job_id,) = site.close()
    site.analyse(job_id)
    assert told(site).PatientID == REAL
    assert len(site.all(ReplacedInstance)) == 3


@pytest.mark.parametrize(
    "other", [document(REAL), build_sc(instance="letter", PatientID=REAL)], ids=["report", "secondary capture"]
)
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_foreign_object_that_is_no_image_of_the_patient_blocks_nothing(site, other, order):
    objects = [image(1), other] if order == "after" else [other, image(1)]
    assert [site.send(each) for each in objects] == [SUCCESS, SUCCESS]
    (job_id,) = site.close()
    site.analyse(job_id)
    assert site.all(Job)[0].outcome == "absent"
    assert told(site).PatientID == TEMPORARY
    assert only(site.database, Study).patient_id == TEMPORARY
    assert "patient_differs" not in kinds(site.database)


def test_another_acquired_image_that_is_not_analysed_makes_the_study_wait_too(site):
    site.answer(image(1))
    chest = image(2, REAL, BodyPartExamined="CHEST", AnatomicRegionSequence=None)
    assert site.send(chest) == SUCCESS
    assert site.close() == ()
    assert status(site).held == 1

    corrected = image(2, TEMPORARY, BodyPartExamined="CHEST", AnatomicRegionSequence=None)
    assert site.send(corrected) == SUCCESS
    assert site.close() == (), "the answer that was there stands"
    assert status(site).held == 0


def test_two_issuers_of_one_patient_id_are_two_patients(site):
    site.send(image(1, IssuerOfPatientID="NORTH"))
    site.send(image(2))
    site.send(image(3, IssuerOfPatientID="SOUTH"))
    assert site.close() == ()
    site.send(image(3, IssuerOfPatientID="NORTH"))
    assert len(site.close()) == 1, "one without an issuer names none in particular"


def test_a_name_that_is_spelled_otherwise_is_the_same_patient_and_the_report_takes_the_newest(site):
    site.answer(image(1, PatientName="MUELLER^ANNA"))
    assert site.send(image(2, PatientName="MÜLLER^ANNA")) == SUCCESS
    (job_id,) = site.close()
    site.analyse(job_id)
    assert str(told(site).PatientName) == "MÜLLER^ANNA"


def test_a_structured_report_that_comes_again_with_the_corrected_patient_is_taken(site):
    site.answer(image(1))
    assert site.send(document(TEMPORARY)) == SUCCESS
    assert site.send(document(REAL)) == SUCCESS
    assert site.send(document(REAL)) == SUCCESS
    assert (site.close(), len(site.files()), len(site.all(ReplacedInstance))) == ((), 2, 1)


def test_what_waits_is_neither_retried_nor_purged(site):
    site.answer(image(1))
    site.send(image(2, REAL))
    site.close()
    uid = only(site.database, Study).study_instance_uid

    with pytest.raises(StudyHeld, match="send the older images again"):
        retry_study(site.database, uid, model_version=VERSION)
    assert retry_failed(site.database, model_version=VERSION) == ()
    assert list(purge(site.database, site.store, utc_now(), by="a test")) == []
    assert len(site.files()) == 2


def test_a_job_that_failed_because_two_patients_were_there_is_done_again_when_they_are_one(site):
    site.send(image(1))
    (job_id,) = site.close()
    chest = {"BodyPartExamined": "CHEST", "AnatomicRegionSequence": None}
    site.send(image(2, REAL, **chest))
    site.analyse(job_id)
    assert [(job.outcome, job.reason) for job in site.all(Job)] == [("failed", OF_JOBS)]
    assert site.close() == ()

    site.send(image(2, TEMPORARY, **chest))

    (again,) = site.close()
    site.analyse(again)
    assert [job.outcome for job in site.all(Job)] == ["failed", "absent"]


def test_an_image_that_is_corrected_out_of_scope_leaves_an_answer_about_the_others(site):
    site.answer(image(1))
    site.send(image(2))
    (job_id,) = site.close()
    site.analyse(job_id)

    site.send(image(2, BodyPartExamined="CHEST", AnatomicRegionSequence=None))

    (job_id,) = site.close()
    site.analyse(job_id)
    assert len(site.all(Report)) == 3
    with site.database.read() as session:
        assert len(session.scalars(select(Instance.id).where(Instance.out_of_scope_reason.is_(None))).all()) == 1


def test_a_study_from_the_archive_that_waits_is_released_by_its_next_retrieval(site):
    for number, patient in ((1, TEMPORARY), (2, REAL)):
        site.send(image(number, patient), FETCHED)
    assert site.close() == ()
    site.purge()
    for number in (1, 2):
        assert site.send(image(number, REAL), FETCHED) == SUCCESS
    (job_id,) = site.close()
    site.analyse(job_id)
    assert told(site).PatientID == REAL
