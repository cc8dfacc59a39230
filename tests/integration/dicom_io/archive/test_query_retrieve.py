"""Queries and retrievals against a PACS in this process that behaves well, badly, or not at all."""

import threading
from datetime import date

import pytest
from pynetdicom.dimse_primitives import C_FIND

from dicom_io.archive.archive import StudyNotFound, StudyQuery
from dicom_io.errors import PeerBusy, PeerRefused, PeerUnreachable
from dicom_io.types import Destination, Registration
from tests.archive_pacs import STUDY, FakeReception, answer, images, pacs
from tests.builders import uid
from tests.peers import LOOPBACK, free_port

PENDING = 0xFF00
DAY = StudyQuery(date(2024, 1, 2), date(2024, 1, 2))


@pytest.fixture
def reception(tmp_path):
    return FakeReception(tmp_path)


def studies(count):
    return [answer(uid("study", str(number)), StudyDate="20240102", ModalitiesInStudy="DX") for number in range(count)]


def finds(*answers, asked=None):
    def handle(event):
        if asked is not None:
            asked.append(event.identifier)
        for each in answers:
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield PENDING, each

    return handle


def gives(data_sets, at_end=lambda event: None):
    def handle(event):
        yield len(data_sets)
        for ds in data_sets:
            yield PENDING, ds
        at_end(event)

    return handle


# --- C-FIND


def test_studies_are_asked_for_by_days_and_modality_and_each_is_named_once(reception):
    asked = []
    known = answer(STUDY, StudyDate="20240102", StudyTime="1011", NumberOfStudyRelatedInstances="2")
    known.ModalitiesInStudy = ["DX", "SR"]
    with pacs(find=finds(known, known, asked=asked)) as pacs_:
        page = reception.archive(pacs_).find(
            StudyQuery(date(2024, 1, 1), date(2024, 1, 31), modalities=("CR", "DX")), 10
        )
    (study,) = page.studies
    assert (study.study_instance_uid, study.study_date, study.study_time) == (STUDY, "20240102", "101100")
    assert (page.complete, page.questions, study.number_of_instances) == (True, 2, 2)
    assert {(each.StudyDate, each.ModalitiesInStudy) for each in asked} == {
        ("20240101-20240131", "CR"),
        ("20240101-20240131", "DX"),
    }


def test_a_body_part_and_a_modality_that_the_pacs_ignores_are_looked_for_in_the_series(reception):
    series = {
        uid("hand"): answer(uid("hand"), SeriesInstanceUID="2.25.1", Modality="DX", BodyPartExamined="HAND"),
        uid("head"): answer(uid("head"), SeriesInstanceUID="2.25.2", Modality="CT", BodyPartExamined="HAND"),
        uid("chest"): answer(uid("chest"), SeriesInstanceUID="2.25.3", Modality="DX", BodyPartExamined="CHEST"),
    }

    def handle(event):
        if event.identifier.QueryRetrieveLevel == "STUDY":
            yield from ((PENDING, answer(study)) for study in series)
        else:
            yield PENDING, series[event.identifier.StudyInstanceUID]

    with pacs(find=handle) as pacs_:
        page = reception.archive(pacs_).find(StudyQuery(modalities=("DX",), body_parts=("HAND", "WRIST")), 10)
    assert [each.study_instance_uid for each in page.studies] == [uid("hand")]
    assert page.questions == 4


def test_past_the_limit_the_query_is_cancelled_and_the_page_says_that_there_is_more(reception):
    with pacs(find=finds(*studies(60))) as pacs_:
        page = reception.archive(pacs_).find(DAY, 5)
    assert len(page.studies) == 5
    assert not page.complete


@pytest.mark.parametrize("each", [answer(STUDY), answer(""), None], ids=["doubled", "no UID", "no identifier"])
def test_answers_without_end_end_the_question(reception, each, monkeypatch):
    monkeypatch.setattr("dicom_io.archive.find.SPARE_ANSWERS", 50)

    def handle(event):
        while event.assoc.is_established:
            if each is None:
                bare = C_FIND()
                bare.MessageIDBeingRespondedTo, bare.Status = event.message_id, PENDING
                bare.AffectedSOPClassUID = event.request.AffectedSOPClassUID
                event.assoc.dimse.send_msg(bare, event.context.context_id)
            else:
                yield PENDING, each

    with pacs(find=handle) as pacs_, pytest.raises(PeerUnreachable, match="without end"):
        reception.archive(pacs_).find(DAY, 5)


def test_a_pacs_that_is_silent_in_the_middle_of_its_answers_is_left(reception):
    gone_on = threading.Event()

    def handle(_event):
        yield PENDING, answer(STUDY)
        gone_on.wait(30)

    with pacs(find=handle) as pacs_:
        with pytest.raises(PeerUnreachable, match=r"had not ended within 0\.5 s"):
            reception.archive(pacs_, total_seconds=0.5).find(DAY, 5)
        gone_on.set()


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(0xA700, PeerBusy, "out of resources"), (0xA900, PeerRefused, "does not match"), (0xC000, PeerRefused, "unable")],
)
def test_what_a_pacs_answers_to_a_query_is_said_in_words(reception, status, error, words):
    def handle(_event):
        yield status, None

    with pacs(find=handle) as pacs_, pytest.raises(error, match=words):
        reception.archive(pacs_).find(DAY, 5)


def test_nobody_there_and_a_refused_service_are_told_apart(reception):
    nobody = Destination("past", "PACS", LOOPBACK, free_port(), "BONEWATCH", timeout_seconds=5)
    with pytest.raises(PeerUnreachable):
        reception.archive(nobody).find(DAY, 5)
    with pacs(get=gives([])) as pacs_, pytest.raises(PeerRefused, match="does not accept"):
        reception.archive(pacs_).find(DAY, 5)


# --- C-GET


def test_what_comes_by_c_get_is_stored_and_recorded_with_its_source(reception):
    with pacs(get=gives(images(3))) as pacs_:
        receipt = reception.archive(pacs_).retrieve(STUDY, reception.receive)
    assert (receipt.completed, receipt.failed, receipt.reason) == (3, 0, None)
    assert {peer.source for peer in reception.intake.peers} == {"get"}
    assert len(reception.intake.files) == 3


def test_what_arrived_before_an_association_broke_stays_and_is_not_doubled(reception):
    def broken(event):
        yield 3
        yield PENDING, images(3)[0]
        event.assoc.abort()

    with pacs(get=broken) as pacs_, pytest.raises(PeerUnreachable, match="broke off"):
        reception.archive(pacs_).retrieve(STUDY, reception.receive)
    assert len(reception.intake.files) == 1
    with pacs(get=gives(images(3))) as pacs_:
        assert reception.archive(pacs_).retrieve(STUDY, reception.receive).completed == 3
    assert reception.intake.registrations.count(Registration.NEW) == 3
    assert reception.intake.registrations.count(Registration.DUPLICATE) == 1


def test_a_study_that_has_gone_since_it_was_found_is_said_to_be_gone(reception):
    with pacs(get=gives([])) as pacs_, pytest.raises(StudyNotFound, match="nothing of this study"):
        reception.archive(pacs_).retrieve(STUDY, reception.receive)


def test_an_instance_of_another_study_is_refused_and_the_receipt_says_so(reception):
    with pacs(get=gives([*images(1), *images(1, "another")])) as pacs_:
        receipt = reception.archive(pacs_).retrieve(STUDY, reception.receive)
    assert (receipt.completed, receipt.failed) == (1, 1)
    assert "0xA900" in receipt.reason
    assert [each.code for each in reception.intake.rejections] == ["study_mismatch"]


def test_instances_without_end_end_with_the_time_for_a_retrieval(reception):
    (image,) = images(1)

    def endless(_event):
        yield 0xFFFF
        while True:
            yield PENDING, image

    with pacs(get=endless) as pacs_, pytest.raises(PeerUnreachable, match="had not ended within 3 s"):
        reception.archive(pacs_, total_seconds=3).retrieve(STUDY, reception.receive)
    assert len(reception.intake.files) == 1


def test_an_intake_that_is_away_is_no_success(reception):
    reception.intake.unavailable = True
    with pacs(get=gives(images(2))) as pacs_:
        receipt = reception.archive(pacs_).retrieve(STUDY, reception.receive)
    assert (receipt.completed, receipt.failed) == (0, 2)
    assert "0xA700" in receipt.reason


# --- C-MOVE


def test_a_c_move_is_announced_before_it_is_asked_for(reception):
    seen = []

    def moves(event):
        seen.append((event.move_destination, event.message_id, list(reception.announced)))
        yield None, None

    with pacs(move=moves) as pacs_, pytest.raises(PeerRefused, match="does not know where to send"):
        reception.archive(pacs_, "move").retrieve(STUDY, reception.receive)
    ((destination, message_id, announced),) = seen
    assert destination == "BONEWATCH"
    assert announced == [(STUDY, message_id)]


def test_a_refusal_for_a_study_that_the_pacs_does_not_name_any_more_means_that_it_has_gone(reception):
    def fails(_event):
        yield 1
        yield 0xC000, None

    with pacs(find=finds(), get=fails) as pacs_, pytest.raises(StudyNotFound):
        reception.archive(pacs_).retrieve(STUDY, reception.receive)
    with pacs(find=finds(answer(STUDY)), get=fails) as pacs_, pytest.raises(PeerRefused, match="unable to process"):
        reception.archive(pacs_).retrieve(STUDY, reception.receive)


def test_which_ways_a_pacs_offers_is_asked(reception):
    with pacs(find=finds(), get=gives([])) as pacs_:
        assert reception.archive(pacs_).accepted() == ("C-FIND", "C-GET")
