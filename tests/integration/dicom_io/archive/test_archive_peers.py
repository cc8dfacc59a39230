"""Finding and fetching against a real Orthanc: by C-GET, by C-MOVE to our listener, by DICOMweb."""

import json
from datetime import date

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from sqlalchemy import select

from dicom_io.archive.archive import StudyNotFound, StudyQuery
from dicom_io.store.folder import InstanceStore
from tests.builders import build_cr, build_dx, ramp, uid, write_part10
from tests.peers import LOOPBACK, free_port
from tests.scu import data_set
from tests.servers import orthanc
from worker.db.tables import Instance, Study
from worker.operate.archive_checks import check_archive
from worker.operate.verdict import Verdict
from worker.queue.bootstrap import build_listener
from worker.reanalysis.archives import build_archive, build_receive
from worker.settings.settings import load_settings

pytestmark = pytest.mark.peer
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless)
WAYS = ("get", "move", "dicomweb")


def written(folder):
    """Write a hand in several encodings, and a chest of another day."""
    paths = []
    for number, syntax in enumerate(SYNTAXES):
        ds = build_dx(study="hand", instance=str(number), BodyPartExamined="HAND", pixels=ramp(64, 64))
        if ds.file_meta.TransferSyntaxUID != syntax and syntax in (RLELossless, JPEG2000Lossless):
            ds.compress(syntax, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = syntax
        paths.append(write_part10(ds, folder / f"{number}.dcm"))
    chest = build_cr(study="chest", BodyPartExamined="CHEST", StudyDate="20240203")
    return paths, write_part10(chest, folder / "chest.dcm")


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """An Orthanc with both studies, the port that it sends to, and what was put into it by SOP Instance UID."""
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    with orthanc(folder, port, dicomweb=True) as server:
        hand, chest = written(folder / "files")
        for path in (*hand, chest):
            server.upload(path)
        yield server, port, {uid("hand", "series", path.stem): data_set(path) for path in hand}


def settings_for(held, folder, way):
    server, port, _ = held
    archive = {"name": "orthanc", "ae_title": "ORTHANC", "host": LOOPBACK, "port": server.dicom_port, "retrieve": way}
    if way == "dicomweb":
        archive = {"name": "orthanc", "url": server.dicomweb_url}
    return load_settings(
        home=folder, archive=json.dumps(archive), dicom_host=LOOPBACK, dicom_port=port, minimum_free_bytes=0
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_study_is_found_and_fetched_bit_for_bit_and_marked_with_its_way(held, database, tmp_path, way):
    settings = settings_for(held, tmp_path, way)
    archive, receive = build_archive(settings, database), build_receive(settings, database)
    with build_listener(settings, database):
        page = archive.find(StudyQuery(date(2024, 1, 1), date(2024, 1, 31), modalities=("CR", "DX")), 10)
        assert [each.study_instance_uid for each in page.studies] == [uid("hand")]
        for _ in range(2):  # the second time changes nothing
            receipt = archive.retrieve(uid("hand"), receive)
            assert (receipt.completed, receipt.failed) == (len(SYNTAXES), 0), receipt.reason
    store = InstanceStore(settings.store)
    with database.read() as session:
        instances = session.scalars(select(Instance)).all()
        assert {each.sop_instance_uid: data_set(store.path(each.path)) for each in instances} == held[2]
        assert {each.source for each in instances} == {way}
        assert session.scalars(select(Study.source)).one() == way


@pytest.mark.parametrize("way", WAYS)
def test_a_study_that_has_gone_is_said_to_be_gone(held, database, tmp_path, way):
    settings = settings_for(held, tmp_path, way)
    with build_listener(settings, database), pytest.raises(StudyNotFound):
        build_archive(settings, database).retrieve(uid("gone"), build_receive(settings, database))


@pytest.mark.parametrize("way", ["get", "dicomweb"])
def test_body_parts_are_found_in_the_series_and_a_page_says_that_there_is_more(held, database, tmp_path, way):
    archive = build_archive(settings_for(held, tmp_path, way), database)
    page = archive.find(StudyQuery(body_parts=("CHEST",)), 10)
    assert ([each.study_instance_uid for each in page.studies], page.complete) == ([uid("chest")], True)
    assert [len(archive.find(StudyQuery(), limit).studies) for limit in (1, 2)] == [1, 2]
    assert [archive.find(StudyQuery(), limit).complete for limit in (1, 2)] == [False, True]


@pytest.mark.parametrize("way", WAYS)
def test_doctor_finds_the_archive_in_order(held, tmp_path, way):
    settings = settings_for(held, tmp_path, way)
    check = check_archive(settings, settings.archive)
    assert check.verdict is Verdict.GOOD, check


def test_doctor_says_where_the_pacs_does_not_know_us(held, tmp_path):
    settings = settings_for(held, tmp_path, "move").model_copy(update={"ae_title": "STRANGER"})
    check = check_archive(settings, settings.archive)
    assert check.verdict is Verdict.BAD
    assert "STRANGER" in check.advice
