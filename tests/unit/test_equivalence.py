import struct
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_io import equivalence
from dicom_io.equivalence import Likeness, attributes_digest, likeness
from dicom_io.file_meta import encode_file_meta
from dicom_io.header import read_file_meta
from dicom_io.pixel_identity import Unreadable
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
    item.LUTDescriptor = [4, 0, 16]
    item.LUTData = struct.pack("<4H", 0, 1000, 30000, 65535)
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    ds.VOILUTSequence = Sequence([item])
    block = ds.private_block(0x0011, "BONEWATCH TEST", create=True)
    block.add_new(0x01, "LO", "odd")
    return ds


def digest(path: Path) -> str | None:
    with path.open("rb") as stream:
        return attributes_digest(stream, read_file_meta(stream))


@pytest.fixture
def no_decoding(monkeypatch):
    """Fail where a process would be started to decode."""

    def decode(path):
        raise AssertionError("nothing has to be decoded")

    monkeypatch.setattr(equivalence, "pixel_digest_apart", decode)


@pytest.mark.parametrize("one", NATIVE)
@pytest.mark.parametrize("other", NATIVE)
def test_what_an_answer_depends_on_is_the_same_in_every_encoding(tmp_path, one, other):
    first = write(radiograph(PatientName="MÜLLER^Ä"), one, tmp_path / "1")
    second = write(radiograph(PatientName="MÜLLER^Ä"), other, tmp_path / "2")
    if ExplicitVRBigEndian in {one, other} and one != other:
        # pydicom writes LUT Data (OW) as it is given; a real converter swaps it
        ds = radiograph(PatientName="MÜLLER^Ä")
        ds.VOILUTSequence[0].LUTData = struct.pack(">4H", 0, 1000, 30000, 65535)
        big, little = (first, second) if one == ExplicitVRBigEndian else (second, first)
        write(ds, ExplicitVRBigEndian, big)
        assert digest(big) == digest(little)
        return
    assert digest(first) == digest(second) is not None


@pytest.mark.parametrize("name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm"])
def test_real_files_of_one_object_are_the_same(name):
    assert likeness(Path(get_testdata_file("MR_small.dcm")), Path(get_testdata_file(name))) is Likeness.SAME


def test_how_a_text_or_a_number_is_written_makes_no_difference(tmp_path):
    one = write(radiograph(PatientName="MÜLLER", ImagerPixelSpacing=["0.150", "0.15"]), NATIVE[0], tmp_path / "1")
    spelled = radiograph(
        SpecificCharacterSet="ISO_IR 100",
        PatientName="MÜLLER",
        ImagerPixelSpacing=["0.15", "1.5E-1"],
        NumberOfFrames="1",
    )
    assert likeness(one, write(spelled, ExplicitVRLittleEndian, tmp_path / "2")) is Likeness.SAME


def test_sequences_of_undefined_length_and_group_lengths_make_no_difference(tmp_path, no_decoding):
    ds = radiograph()
    ds["VOILUTSequence"].is_undefined_length = True
    ds.VOILUTSequence[0].is_undefined_length_sequence_item = True
    other = write(ds, ExplicitVRLittleEndian, tmp_path / "2")
    one = write(radiograph(), ImplicitVRLittleEndian, tmp_path / "1")
    assert likeness(one, other) is Likeness.SAME
    assert one.read_bytes() != other.read_bytes()


def change_text(ds):
    ds.PatientName = "TEST^OTHER"


def change_item(ds):
    ds.VOILUTSequence[0].LUTDescriptor = [4, 1, 16]


def add_item(ds):
    ds.VOILUTSequence.append(Dataset())


def remove_element(ds):
    del ds.PresentationLUTShape


def change_description(ds):
    ds.StudyDescription = "CHEST"


@pytest.mark.parametrize("change", [change_text, change_item, add_item, remove_element, change_description])
def test_any_difference_that_matters_is_a_correction(tmp_path, change, no_decoding):
    changed = radiograph()
    change(changed)
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert likeness(one, write(changed, ImplicitVRLittleEndian, tmp_path / "2")) is Likeness.CORRECTED


def change_private(ds):
    ds[0x00111001].value = "even"


def add_words_of_an_archive(ds):
    ds.InstitutionName, ds.InstanceCreationTime = "ARCHIVE", "101010"


@pytest.mark.parametrize("change", [change_private, add_words_of_an_archive])
def test_what_an_archive_adds_besides_is_no_difference(tmp_path, change, no_decoding):
    changed = radiograph()
    change(changed)
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert likeness(one, write(changed, ImplicitVRLittleEndian, tmp_path / "2")) is Likeness.SAME


def test_one_pixel_makes_another_image(tmp_path):
    changed = radiograph()
    changed.PixelData = b"\x07" + changed.PixelData[1:]
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert likeness(one, write(changed, ImplicitVRLittleEndian, tmp_path / "2")) is Likeness.ANOTHER


def test_the_same_bytes_that_are_to_be_read_otherwise_are_decoded(tmp_path):
    turned = radiograph()
    turned.Rows, turned.Columns = turned.Columns, turned.Rows
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert likeness(one, write(turned, ExplicitVRLittleEndian, tmp_path / "2")) is Likeness.ANOTHER


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a", "a", Likeness.SAME),
        ("a", "b", Likeness.ANOTHER),
        ("a", Unreadable(permanent=True), Likeness.ANOTHER),
        (Unreadable(permanent=True), "b", Likeness.CORRECTED),
        (Unreadable(permanent=True), Unreadable(permanent=True), Likeness.ANOTHER),
        ("a", Unreadable(permanent=False), Likeness.UNKNOWN),
        (Unreadable(permanent=False), "b", Likeness.UNKNOWN),
    ],
)
def test_what_decoding_tells(tmp_path, monkeypatch, before, after, expected):
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    other = write(radiograph(), ExplicitVRBigEndian, tmp_path / "2")
    monkeypatch.setattr(equivalence, "pixel_digest_apart", {one: before, other: after}.get)
    if expected is Likeness.SAME:
        expected = Likeness.SAME if digest(one) == digest(other) else Likeness.CORRECTED
    assert likeness(one, other) is expected


def nested(payload: bytes, depth: int) -> bytes:
    """Return an implicit data set with `payload` in sequences within sequences, all of defined length."""
    encoded = struct.pack("<HHI", 0x0011, 0x1001, len(payload)) + payload
    for _level in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(encoded)) + encoded
        encoded = struct.pack("<HHI", 0x0008, 0x2218, len(item)) + item
    return encoded


def test_deep_sequences_take_no_memory_for_each_level(tmp_path):
    path = tmp_path / "deep.dcm"
    path.write_bytes(encode_file_meta("1.2", "1.2.3", ImplicitVRLittleEndian) + nested(bytes(1 << 20), depth=50))
    tracemalloc.start()
    try:
        assert likeness(path, path) is Likeness.SAME
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_a_bomb_of_sequences_has_no_digest_and_costs_little():
    assert attributes_digest(BytesIO(nested(b"even", depth=20_000)), ImplicitVRLittleEndian) is None


def test_a_difference_deep_within_sequences_is_found():
    one, other = (
        attributes_digest(BytesIO(nested(payload, depth=50)), ImplicitVRLittleEndian) for payload in (b"even", b"odd ")
    )
    assert None not in {one, other}
    assert one != other


def test_a_compressed_copy_is_the_same_object():
    one, other = (Path(get_testdata_file(name)) for name in ("MR_small.dcm", "MR_small_RLE.dcm"))
    assert dcmread(one).SOPInstanceUID == dcmread(other).SOPInstanceUID
    assert digest(one) == digest(other)


def test_what_cannot_be_read_is_not_the_same(tmp_path):
    whole = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    broken = tmp_path / "2"
    broken.write_bytes(whole.read_bytes()[:-1])
    assert likeness(whole, broken) is Likeness.ANOTHER
    assert likeness(broken, broken) is Likeness.ANOTHER
    assert likeness(whole, tmp_path / "missing") is Likeness.UNKNOWN
