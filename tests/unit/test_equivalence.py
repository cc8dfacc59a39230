import struct
import tracemalloc
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_io.equivalence import same_object
from dicom_io.file_meta import encode_file_meta
from tests.builders import build_dx, write_part10

NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]


def write(ds: Dataset, syntax: str, path: Path) -> Path:
    """Write a little endian data set in another encoding, pixels included."""
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = b"".join(ds.PixelData[at : at + 2][::-1] for at in range(0, len(ds.PixelData), 2))
    return write_part10(ds, path)


def radiograph(**changes) -> Dataset:
    ds = build_dx(**changes)
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    item.RecommendedDisplayFrameRate = 7
    item.PurposeOfReferenceCodeSequence = Sequence([Dataset()])
    ds.SourceImageSequence = Sequence([item])
    block = ds.private_block(0x0011, "BONEWATCH TEST", create=True)
    block.add_new(0x01, "LO", "odd")
    return ds


@pytest.mark.parametrize("one", NATIVE)
@pytest.mark.parametrize("other", NATIVE)
def test_one_object_in_two_uncompressed_encodings_is_the_same(tmp_path, one, other):
    assert same_object(write(radiograph(), one, tmp_path / "1"), write(radiograph(), other, tmp_path / "2"))


@pytest.mark.parametrize("name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_real_files_of_one_object_are_the_same(name):
    assert same_object(Path(get_testdata_file("MR_small.dcm")), Path(get_testdata_file(name)))


def test_sequences_of_undefined_length_and_group_lengths_make_no_difference(tmp_path):
    ds = radiograph()
    ds["SourceImageSequence"].is_undefined_length = True
    ds.SourceImageSequence[0].is_undefined_length_sequence_item = True
    other = write(ds, ExplicitVRLittleEndian, tmp_path / "2")
    one = write(radiograph(), ImplicitVRLittleEndian, tmp_path / "1")
    assert same_object(one, other)
    assert one.read_bytes() != other.read_bytes()


def change_pixel(ds):
    ds.PixelData = b"\x07" + ds.PixelData[1:]


def change_text(ds):
    ds.PatientName = "TEST^OTHER"


def change_item(ds):
    ds.SourceImageSequence[0].RecommendedDisplayFrameRate = 8


def add_item(ds):
    ds.SourceImageSequence.append(Dataset())


def change_private(ds):
    ds[0x00111001].value = "even"


def remove_element(ds):
    del ds.Manufacturer


@pytest.mark.parametrize("change", [change_pixel, change_text, change_item, add_item, change_private, remove_element])
def test_any_difference_is_a_difference(tmp_path, change):
    changed = radiograph()
    change(changed)
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert not same_object(one, write(changed, ImplicitVRLittleEndian, tmp_path / "2"))


def nested(payload: bytes, depth: int) -> bytes:
    """Return an implicit data set with `payload` in sequences within sequences, all of defined length."""
    encoded = struct.pack("<HHI", 0x0011, 0x1001, len(payload)) + payload
    for _level in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(encoded)) + encoded
        encoded = struct.pack("<HHI", 0x0008, 0x1140, len(item)) + item
    return encoded


def test_deep_sequences_take_no_memory_for_each_level(tmp_path):
    path = tmp_path / "deep.dcm"
    path.write_bytes(encode_file_meta("1.2", "1.2.3", ImplicitVRLittleEndian) + nested(bytes(1 << 20), depth=50))
    tracemalloc.start()
    try:
        assert same_object(path, path)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_difference_deep_within_sequences_is_found(tmp_path):
    for name, payload in (("1", b"even"), ("2", b"odd ")):
        meta = encode_file_meta("1.2", "1.2.3", ImplicitVRLittleEndian)
        (tmp_path / name).write_bytes(meta + nested(payload, depth=50))
    assert not same_object(tmp_path / "1", tmp_path / "2")


def test_a_compressed_copy_is_not_compared():
    names = ("MR_small.dcm", "MR_small_RLE.dcm")
    one, other = (Path(get_testdata_file(name)) for name in names)
    assert dcmread(one).SOPInstanceUID == dcmread(other).SOPInstanceUID
    assert not same_object(one, other)


def test_what_cannot_be_read_is_not_the_same(tmp_path):
    whole = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    broken = tmp_path / "2"
    broken.write_bytes(whole.read_bytes()[:-1])
    assert not same_object(whole, broken)
    assert not same_object(whole, tmp_path / "missing")
    assert not same_object(broken, broken)
