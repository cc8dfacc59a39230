"""Images in ZIP files: which are found, and what a hostile ZIP file cannot do."""

import zipfile
from pathlib import Path

import pytest

from tests.builders import build_cr, part10_bytes
from worker.errors import ZipMemberUnreadable
from worker.files import zip_files
from worker.files.candidates import Kind, output_names, select

IMAGE = part10_bytes(build_cr())


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def test_a_zip_file_is_searched_like_a_folder(tmp_path: Path) -> None:
    path = zipped(tmp_path / "study.zip", DICOM__IM1=IMAGE, DICOM__IM2=IMAGE, DICOMDIR=IMAGE, README=b"words")
    selection = select([tmp_path], open_zip=True)
    assert [each.path for each in selection.candidates] == [path / "DICOM" / "IM1", path / "DICOM" / "IM2"]
    assert {each.kind for each in selection.candidates} == {Kind.DICOM}
    assert selection.skipped == 2
    assert output_names(selection.candidates)[0] == Path("study.zip/DICOM/IM1")


def test_a_file_is_taken_out_whole_and_removed_again(tmp_path: Path) -> None:
    [candidate] = select([zipped(tmp_path / "study.zip", IM1=IMAGE)], open_zip=True).candidates
    with candidate.readable() as path:
        assert path.read_bytes() == IMAGE
    assert not path.exists()


def test_a_zip_file_without_an_image_has_failed(tmp_path: Path) -> None:
    [candidate] = select([zipped(tmp_path / "study.zip", README=b"words")], open_zip=True).candidates
    assert candidate.obstacle == "the ZIP file holds no DICOM file and no picture (JPEG, PNG, TIFF, WebP)"


def test_a_damaged_zip_file_has_failed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "study.zip", IM1=IMAGE)
    path.write_bytes(path.read_bytes()[:-30])
    [candidate] = select([tmp_path], open_zip=True).candidates
    assert "cannot be read" in str(candidate.obstacle)


def test_a_damaged_member_without_a_suffix_has_failed_and_is_not_passed_over(tmp_path: Path) -> None:
    path = zipped(tmp_path / "study.zip", IM1=IMAGE, IM2=IMAGE)
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    first, second = select([path], open_zip=True).candidates
    assert "damaged" in str(first.obstacle)
    assert second.obstacle is None


@pytest.mark.parametrize(
    "name", ["../../up.dcm", "/root.dcm", "..\\..\\up.dcm", "a/../../../up.dcm", "x\x1b[2Jy.dcm", "../.."]
)
def test_a_name_never_leads_out_of_the_output_folder(name: str, tmp_path: Path) -> None:
    inside = (tmp_path / zip_files.safe_name(name)).resolve()
    assert inside.is_relative_to(tmp_path.resolve())
    assert inside != tmp_path.resolve()
    assert inside.name.isprintable()


def test_no_more_than_the_limit_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "bomb.zip", IM1=bytes(1 << 20))
    monkeypatch.setattr(zip_files, "MAXIMUM_MEMBER_BYTES", 1 << 19)
    with pytest.raises(ZipMemberUnreadable, match="unpacks to more"), zip_files.taken_out(path, "IM1"):
        pytest.fail("it was unpacked")
