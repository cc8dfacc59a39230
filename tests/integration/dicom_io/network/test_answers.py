"""No answer of a peer is lost, also where pynetdicom's serving thread goes on while a question waits for it."""

from types import SimpleNamespace

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.sop_class import Verification

from dicom_io.archive.archive import StudyQuery
from dicom_io.network.answers import AnswerKeepingDimse
from dicom_io.send.sender import echo
from dicom_io.types import Destination
from tests.archive_pacs import FakeReception, answer, pacs
from tests.builders import uid
from tests.peers import LOOPBACK

PENDING = 0xFF00


class NoPause:
    """Stands for pynetdicom's pause of that thread where its race skips it: here it always does."""

    def wait(self):
        return True

    set = clear = wait


@pytest.fixture
def no_pause(monkeypatch):
    pause = property(lambda _: NoPause(), lambda *_: None)
    monkeypatch.setattr(Association, "_reactor_checkpoint", pause, raising=False)
    monkeypatch.setattr(Association, "_is_paused", property(lambda _: True, lambda *_: None), raising=False)


@pytest.mark.usefixtures("no_pause")
def test_every_answer_to_a_query_comes(tmp_path):
    def handle(event):
        study = event.identifier.StudyInstanceUID
        if event.identifier.QueryRetrieveLevel == "STUDY":
            yield from ((PENDING, answer(uid("study", str(number)))) for number in range(150))
        else:
            yield PENDING, answer(study, SeriesInstanceUID="2.25.1", BodyPartExamined="HEAD")

    with pacs(find=handle) as pacs_:
        page = FakeReception(tmp_path).archive(pacs_).find(StudyQuery(body_parts=("HAND",)), 200)
    assert (page.studies, page.questions) == ((), 151), "a study whose series were not answered is kept"


@pytest.mark.usefixtures("no_pause")
def test_every_answer_comes_on_an_association_without_bounds_of_its_own():
    ae = AE(ae_title="PACS")
    ae.add_supported_context(Verification)
    server = ae.start_server((LOOPBACK, 0), block=False)
    try:
        port = server.socket.getsockname()[1]
        for _ in range(40):
            echo(Destination("test", "PACS", LOOPBACK, port, "BONEWATCH", timeout_seconds=5))
    finally:
        server.shutdown()


@pytest.mark.parametrize("is_requestor", [True, False])
def test_who_does_not_wait_gets_requests_and_no_answers(is_requestor):
    dimse = AnswerKeepingDimse(SimpleNamespace(is_requestor=is_requestor, dimse_timeout=1, dul=None))
    request, response = C_FIND(), C_FIND()
    response.MessageIDBeingRespondedTo = 1
    dimse.msg_queue.put((1, request))
    dimse.msg_queue.put((1, response))
    assert dimse.get_msg() == (1, request)
    assert dimse.get_msg() == ((None, None) if is_requestor else (1, response))
    if is_requestor:
        assert dimse.get_msg(block=True) == (1, response)
