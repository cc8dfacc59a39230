"""One SOP Instance UID, other bytes: the same image in another encoding, a corrected one, or another image.

What arrives goes the whole way, by the reception into store and database; the worker's part is what `analysed` does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from sqlalchemy import select, update

from dicom_io.header.scope import ScopeRule
from dicom_io.network.wire import IncomingDataSet
from dicom_io.pixels.frames import read_frames
from dicom_io.receive.reception import DUPLICATE_SOP_INSTANCE, SUCCESS, Arrival, Reception
from dicom_io.report.structured_report import build_report
from dicom_io.store.folder import InstanceStore
from dicom_io.types import Peer
from tests.builders import build_dx, ramp, uid
from tests.databases import kinds, only
from tests.fakes_worker import ABSENT, VERSION, FakeAnalyzer
from tests.listening import request_for
from worker.db.tables import Delivery, Event, Instance, Job, Rejection, ReplacedInstance, Report, Study
from worker.operate.forget import forget
from worker.reception.intake import SqlIntake
from worker.storage.file_removal import PURGED, mark, remove_marked
from worker.study import jobs
from worker.study.completion import REPLACED
from worker.study.pipeline import Collaborators, ReportRule, analyse_study
from worker.study.studies import Models, close_quiet_studies

PUSHED, FETCHED = Peer("PACS", "10.0.0.5"), Peer("PACS", "10.0.0.5", "get")
PIXELS = ramp(40, 48)
ENCODINGS = (
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
)


class ReceivingSite:
    """A reception with its store and database, and what happens behind it."""

    def __init__(self, database, clock, folder):
        self.database, self.clock = database, clock
        self.store = InstanceStore(folder / "store")
        self.reception = Reception(self.store, SqlIntake(database, ScopeRule(), lambda _: 1.0, clock))

    def send(self, ds, peer=PUSHED) -> int:
        request = request_for(ds)
        incoming = IncomingDataSet(self.store.spool, 1 << 24)
        incoming.write(request.data_set)
        identity = (request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid)
        return self.reception.receive(Arrival(*identity, incoming, peer))

    def close(self):
        self.clock.advance(60)
        return close_quiet_studies(self.database, Models(VERSION), quiet_seconds=30, now=self.clock(), limit=9)

    def analyse(self, job_id, meanwhile=lambda: None):
        parts = Collaborators(
            database=self.database,
            store=self.store,
            read_frames=read_frames,
            analyzer=FakeAnalyzer(ABSENT),
            build_report=build_report,
            manufacturer="bonewatch",
            destinations=("pacs",),
            rule=ReportRule(),
            clock=self.clock,
        )
        held = jobs.claim(self.database, job_id, worker="w", lease_seconds=60, now=self.clock())
        analyse_study(held, parts, meanwhile)

    def answer(self, ds):
        """Send an image and let its study be analysed."""
        assert self.send(ds) == SUCCESS
        (job_id,) = self.close()
        self.analyse(job_id)

    def purge(self):
        with self.database.read() as session:
            studies = session.scalars(select(Study.id)).all()
        for study_id in studies:
            assert mark(self.database, study_id, Study.id == study_id, PURGED)
            remove_marked(self.database, self.store, study_id, by="a test", now=self.clock())

    def files(self, folder="instances"):
        return sorted(path for path in (self.store.root / folder).rglob("*.dcm"))

    def instance(self):
        return only(self.database, Instance)

    def all(self, table):
        with self.database.read() as session:
            rows = list(session.scalars(select(table).order_by(table.id)))
            session.expunge_all()
            return rows


@pytest.fixture
def site(database, clock, tmp_path):
    return ReceivingSite(database, clock, tmp_path)


def image(syntax=ExplicitVRLittleEndian, **words):
    """Return one image in an encoding; words replace attributes."""
    ds = build_dx(pixels=words.pop("pixels", PIXELS), **words)
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        options = {"jls_error": 3} if syntax == JPEGLSNearLossless else {}
        ds.compress(syntax, generate_instance_uid=False, **options)
    elif syntax == ExplicitVRBigEndian:
        ds.PixelData = PIXELS.astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda syntax: syntax.name)
def test_what_was_deleted_here_comes_back_in_another_encoding_and_is_not_analysed_again(site, syntax):
    site.answer(image())
    before = site.instance()
    site.purge()

    assert site.send(image(syntax)) == SUCCESS

    after = site.instance()
    assert (after.transfer_syntax_uid, after.file_deleted_reason) == (syntax, None)
    assert after.digest != before.digest
    assert (after.identity, after.pixel_digest) == (before.digest, before.pixel_digest)
    assert site.close() == (), "a second analysis only because the encoding changed"
    assert [path.name for path in site.files()] == [f"{after.sop_instance_uid}.{after.digest[:16]}.dcm"]
    assert site.all(Rejection) == []


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda syntax: syntax.name)
def test_the_same_image_in_another_encoding_beside_the_stored_one_changes_nothing(site, syntax):
    site.answer(image())
    before = site.instance()

    assert site.send(image(syntax)) == SUCCESS

    after = site.instance()
    assert (after.digest, after.path) == (before.digest, before.path)
    assert len(site.files()) == 1
    assert (site.close(), site.all(ReplacedInstance), site.all(Rejection)) == ((), [], [])


def test_every_night_may_bring_another_encoding_and_no_night_fails(site):
    site.answer(image())
    for syntax in (JPEGLSLossless, ImplicitVRLittleEndian, RLELossless, ExplicitVRLittleEndian):
        site.purge()
        assert site.send(image(syntax), FETCHED) == SUCCESS
        assert site.close() == ()
    assert len(site.all(ReplacedInstance)) == 4
    assert len(site.all(Job)) == 1
    assert kinds(site.database).count("instance_replaced") == 4


@pytest.mark.parametrize("peer", [PUSHED, FETCHED], ids=["pushed", "fetched"])
@pytest.mark.parametrize(
    "change",
    [
        {"PatientID": "MRN-77"},
        {"PatientName": "REAL^NAME"},
        {"PatientBirthDate": "19610203"},
        {"IssuerOfPatientID": "HOSPITAL"},
        {"AccessionNumber": "ACC-2"},
        {"ImageLaterality": "L"},
        {"WindowWidth": 1000},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_was_deleted_here_comes_back_corrected_and_gets_a_new_answer(site, peer, change):
    site.answer(image())
    site.purge()

    assert site.send(image(JPEGLSLossless, **change), peer) == SUCCESS

    (job_id,) = site.close()
    site.analyse(job_id)
    first, second = site.all(Report)
    assert second.predecessor_sop_instance_uid == first.sop_instance_uid
    assert [job.outcome for job in site.all(Job)] == ["absent", "absent"]
    assert site.all(Rejection) == []


def test_what_was_deleted_here_comes_back_with_other_pixels_and_is_analysed_anew(site):
    site.answer(image())
    site.purge()

    assert site.send(image(JPEGLSNearLossless)) == SUCCESS

    (told,) = [event for event in site.all(Event) if event.kind == "instance_replaced"]
    assert (told.detail["pixels"], told.detail["same_content"]) == ("different", False)
    (job_id,) = site.close()
    site.analyse(job_id)
    assert len(site.all(Report)) == 2


def test_what_was_never_decoded_and_is_gone_is_taken_as_new_content(site):
    assert site.send(image()) == SUCCESS
    site.close()
    site.purge()

    assert site.send(image(RLELossless)) == SUCCESS

    assert len(site.close()) == 1
    assert site.instance().identity != site.all(ReplacedInstance)[0].digest


def test_the_same_bytes_again_after_a_purge_are_the_same(site):
    site.answer(image())
    site.purge()
    assert site.send(image()) == SUCCESS
    assert (site.close(), site.all(ReplacedInstance)) == ((), [])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless], ids=lambda syntax: syntax.name)
def test_another_image_under_the_uid_of_a_stored_one_is_refused(site, syntax):
    site.answer(image())
    before = site.instance()
    other = PIXELS.copy()
    other[5, 5] += 1

    assert site.send(image(syntax, pixels=other)) == DUPLICATE_SOP_INSTANCE

    assert (site.instance().digest, len(site.files())) == (before.digest, 1)
    assert len(site.files("quarantine")) == 1
    assert site.all(Rejection)[0].status == DUPLICATE_SOP_INSTANCE


def test_a_lossy_copy_is_refused_while_the_original_is_here(site):
    site.answer(image())
    assert site.send(image(JPEGLSNearLossless)) == DUPLICATE_SOP_INSTANCE


def test_the_same_uid_in_another_study_is_refused_while_its_file_is_here(site):
    site.answer(image())
    assert site.send(image(StudyInstanceUID=uid("elsewhere"))) == DUPLICATE_SOP_INSTANCE
    assert len(site.all(Study)) == 1


def test_what_was_deleted_here_comes_back_in_the_study_that_an_archive_moved_it_to(site):
    site.answer(image())
    site.purge()

    assert site.send(image(RLELossless, StudyInstanceUID=uid("elsewhere")), FETCHED) == SUCCESS

    (job_id,) = site.close()
    site.analyse(job_id)
    before, after = site.all(Study)
    assert (site.instance().study_id, site.all(Job)[-1].study_id, site.all(Job)[-1].outcome) == (
        after.id,
        after.id,
        "absent",
    )
    (told,) = [event for event in site.all(Event) if event.kind == "instance_moved"]
    assert (told.study_id, told.detail["to_study_instance_uid"]) == (before.id, after.study_instance_uid)
    with site.database.write() as session:
        session.execute(update(Delivery).values(state="committed"))
    assert forget(site.database, site.store, uid("elsewhere"), by="a test", now=site.clock()).instances == 1
    assert [study.id for study in site.all(Study)] == [before.id]


def test_a_whole_image_takes_the_place_of_one_that_could_not_be_decoded(site):
    cut = image()
    cut.PixelData = cut.PixelData[:100]
    site.answer(cut)
    assert site.all(Job)[0].outcome == "failed"

    assert site.send(image()) == SUCCESS

    (job_id,) = site.close()
    site.analyse(job_id)
    assert site.all(Job)[-1].outcome == "absent"
    assert site.send(cut) == DUPLICATE_SOP_INSTANCE, "a damaged copy never takes the place of a whole image"


def test_a_correction_that_is_taken_back_gets_its_own_answer_too(site):
    site.answer(image())
    for patient_id in ("WRONG", "TEST-0001"):
        assert site.send(image(PatientID=patient_id)) == SUCCESS
        (job_id,) = site.close()
        site.analyse(job_id)
    assert len({job.digest for job in site.all(Job)}) == 3
    assert len(site.all(Report)) == 3


def test_what_was_replaced_stays_on_record_with_who_sent_it_and_when(site, clock):
    site.answer(image())
    before, moment = site.instance(), clock()

    assert site.send(image(PatientID="MRN-77"), replace(PUSHED, ae_title="OTHERPACS")) == SUCCESS

    (old,), new = site.all(ReplacedInstance), site.instance()
    assert (old.patient_id, old.digest, old.calling_ae_title, old.received_at) == (
        "TEST-0001",
        before.digest,
        "PACS",
        before.received_at,
    )
    assert (new.patient_id, new.calling_ae_title, new.received_at) == ("MRN-77", "OTHERPACS", moment)
    assert only(site.database, Study).patient_id == "MRN-77"
    (told,) = [event for event in site.all(Event) if event.kind == "instance_replaced"]
    assert (told.detail["ae_title"], told.detail["new_patient_id"]) == ("OTHERPACS", True)
    assert "MRN-77" not in str(told.detail)
    assert "TEST-0001" not in str(told.detail)
    assert len(site.files()) == 1, "the old file goes once the new one is on record"


def test_an_analysis_that_is_overtaken_by_a_correction_makes_no_report(site):
    assert site.send(image()) == SUCCESS
    (job_id,) = site.close()

    site.analyse(job_id, meanwhile=lambda: site.send(image(PatientID="MRN-77")))

    assert [(job.outcome, job.reason) for job in site.all(Job)] == [("failed", REPLACED)]
    assert site.all(Report) == []
    (next_job,) = site.close()
    site.analyse(next_job)
    assert [job.outcome for job in site.all(Job)] == ["failed", "absent"]
    assert len(site.all(Report)) == 1


def test_an_image_that_was_out_of_scope_is_analysed_once_its_body_part_is_corrected(site):
    assert site.send(image(BodyPartExamined="CHEST", AnatomicRegionSequence=None)) == SUCCESS
    (job_id,) = site.close()
    site.analyse(job_id)
    assert site.all(Job)[0].outcome == "out_of_scope"

    assert site.send(image(AnatomicRegionSequence=None)) == SUCCESS

    (job_id,) = site.close()
    site.analyse(job_id)
    assert site.all(Job)[-1].outcome == "absent"


def test_signed_and_unsigned_values_are_different_pixels(site):
    signed = image(pixels=(PIXELS.astype(np.int32) - 2048).astype(np.int16))
    site.answer(image())
    assert site.send(signed) == DUPLICATE_SOP_INSTANCE
