import io

import pydicom
import pytest

from tests.builders import build_radiograph, part10_bytes, ramp, write_part10


@pytest.mark.parametrize("kind", ["CR", "DX", "SC"])
def test_a_built_radiograph_survives_the_way_through_a_file(kind, tmp_path):
    path = write_part10(build_radiograph(kind), tmp_path / "deep" / "image.dcm")

    read = pydicom.dcmread(path)

    assert read.SOPClassUID == read.file_meta.MediaStorageSOPClassUID
    assert (read.pixel_array == ramp()).all()


def test_an_override_of_none_removes_the_attribute():
    ds = build_radiograph("DX", ImagerPixelSpacing=None, BodyPartExamined="KNEE")

    assert "ImagerPixelSpacing" not in ds
    assert ds.BodyPartExamined == "KNEE"


def test_building_twice_gives_the_same_bytes_and_another_word_gives_another_uid():
    assert part10_bytes(build_radiograph()) == part10_bytes(build_radiograph())
    other = pydicom.dcmread(io.BytesIO(part10_bytes(build_radiograph(instance="second"))))
    assert other.SOPInstanceUID != build_radiograph().SOPInstanceUID
