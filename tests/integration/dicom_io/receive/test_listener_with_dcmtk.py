"""DCMTK's own programs push to the listener, as other people's software does."""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRBigEndian

from dicom_io.receive.listener import AllowedCaller
from tests import peers
from tests.builders import build_cr, build_dx, ramp, write_part10
from tests.listening import listening
from tests.scu import data_set

pytestmark = pytest.mark.peer

CALL = ("-aet", "DCMTK", "-aec", "BONEWATCH", "127.0.0.1")


def storescu(running, *arguments, expect=0):
    return peers.run("storescu", "-v", *CALL, running.port, *arguments, expect=expect)


def stored(running) -> dict[str, Path]:
    return {uid: running.store.path(each.path) for uid, each in running.intake.files.items()}


def test_echoscu_is_answered(tmp_path):
    with listening(tmp_path) as running:
        peers.run("echoscu", *CALL, running.port)


def test_echoscu_is_turned_away_under_a_wrong_name(tmp_path):
    with listening(tmp_path, allowed_callers=(AllowedCaller("SOMEONE"),)) as running:
        answer = peers.run("echoscu", *CALL, running.port, expect=None)
    assert answer.returncode != 0
    assert "Calling AE Title Not Recognized" in answer.stdout + answer.stderr
    assert [each.peer.ae_title for each in running.intake.rejections] == ["DCMTK"]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("CT_small.dcm", "-xe"),
        ("MR_small_bigendian.dcm", "-xb"),
        ("JPEG2000.dcm", "-xw"),
        ("693_J2KR.dcm", "-xv"),
        ("JPGLosslessP14SV1_1s_1f_8b.dcm", "-xs"),
        ("MR_small_jpeg_ls_lossless.dcm", "-xt"),
        ("MR_small_RLE.dcm", "-xr"),
    ],
)
def test_storescu_pushes_a_file_and_its_data_set_arrives_with_equal_values(tmp_path, name, option):
    source = Path(get_testdata_file(name))
    with listening(tmp_path) as running:
        storescu(running, option, source)
        (path,) = stored(running).values()
    expected, received = dcmread(source), dcmread(path)
    assert received.file_meta.TransferSyntaxUID == expected.file_meta.TransferSyntaxUID
    assert received.PixelData == expected.PixelData
    assert received.StudyInstanceUID == expected.StudyInstanceUID


def test_storescu_reads_back_what_was_stored_and_pushes_it_again_as_a_duplicate(tmp_path):
    source = write_part10(build_dx(), tmp_path / "source.dcm")
    with listening(tmp_path) as running:
        storescu(running, "-xe", source)
        (path,) = stored(running).values()
        peers.run("dcmdump", path)
        storescu(running, "-xe", path)
        assert len(running.files()) == 1
    assert running.intake.rejections == []
    assert dcmread(path).PixelData == dcmread(source).PixelData


def test_storescu_may_change_the_encoding_between_two_pushes(tmp_path):
    source = write_part10(build_dx(), tmp_path / "source.dcm")
    with listening(tmp_path) as running:
        for option in ("-xe", "-xi", "-xb"):
            storescu(running, option, source)
        assert len(running.files()) == 1
    assert running.intake.rejections == []


def test_storescu_is_told_that_a_uid_is_taken(tmp_path):
    first = write_part10(build_cr(), tmp_path / "first.dcm")
    second = write_part10(build_cr(pixels=ramp()[::-1]), tmp_path / "second.dcm")
    with listening(tmp_path) as running:
        storescu(running, "-xe", first)
        answer = storescu(running, "-d", "-xe", second, expect=None)
        assert len(running.files()) == 1
        assert len(running.files("quarantine")) == 1
    assert "0x0111" in answer.stdout + answer.stderr
    assert [each.code for each in running.intake.rejections] == ["duplicate_uid"]


def test_dcmsend_pushes_a_folder_of_many_kinds_on_one_association(tmp_path):
    folder = tmp_path / "folder"
    names = ("CT_small.dcm", "JPEG2000.dcm", "693_J2KR.dcm", "reportsi.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm")
    sources = []
    for number, name in enumerate(names):
        target = folder / f"{number}.dcm"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(Path(get_testdata_file(name)).read_bytes())
        sources.append(target)
    with listening(tmp_path) as running:
        peers.run("dcmsend", "-v", "-aet", "DCMTK", "-aec", "BONEWATCH", "127.0.0.1", running.port, "+sd", folder)
        received = stored(running)
    assert set(received) == {str(dcmread(source).SOPInstanceUID) for source in sources}
    jpeg2000 = received[str(dcmread(sources[1]).SOPInstanceUID)]
    assert dcmread(jpeg2000).PixelData == dcmread(sources[1]).PixelData
    assert running.intake.rejections == []


def test_a_push_that_is_killed_leaves_nothing_and_its_repetition_succeeds(tmp_path):
    ds = build_cr()
    ds.Rows, ds.Columns, ds.PixelData = 8192, 8192, bytes(8192 * 8192 * 2)
    source = write_part10(ds, tmp_path / "large.dcm")
    with listening(tmp_path) as running:
        # 1 KiB at a time, so that the kill comes in the middle of 128 MiB.
        command = [peers.program("storescu"), "--max-send-pdu", "4096", *CALL, str(running.port), str(source)]
        service = peers.Service("storescu", command, tmp_path / "storescu.log")
        service.start(ready=lambda: running.listener.active_associations == 1)
        service.kill()
        peers.wait_until(lambda: running.listener.active_associations == 0, 60, "the association is gone")
        assert running.files("") == []
        storescu(running, "-xe", source)
        (path,) = stored(running).values()
        assert data_set(path) == data_set(source)


def test_a_big_endian_copy_arrives_as_big_endian(tmp_path):
    source = Path(get_testdata_file("MR_small_bigendian.dcm"))
    with listening(tmp_path) as running:
        storescu(running, "-xb", source)
        (path,) = stored(running).values()
    assert dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRBigEndian
