"""What is compared of two objects under one SOP Instance UID, and what of them may differ."""

from __future__ import annotations

import ast
import copy
import io
import struct
import tracemalloc
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

import dicom_io
from dicom_io.header.file_meta import encode_file_meta
from dicom_io.header.header import READ_KEYWORDS, read_file_meta
from dicom_io.receive.equivalence import DISPLAY, IN_OTHER_ENCODINGS, LAYOUT, Comparison, attributes_digest, likeness
from tests.builders import build_dx, coded, write_part10

NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
PACKAGE = Path(dicom_io.__file__).parent
# Modules that read a source image for its answer or its report.
READERS = (
    "pixels/frames",
    "pixels/image_file",
    "pixels/limits",
    "pixels/stored_bits",
    "pixels/display_attributes",
    "pixels/grayscale",
    "report/source",
)
READ_OTHERWISE = {
    **dict.fromkeys(("PixelData", "LUTDescriptor", "LUTData", "TransferSyntaxUID"), "compared as part of the others"),
    "LossyImageCompression": "copied to the marked image only, and pixels that lost something differ",
    "PatientIdentityRemoved": "written, not read",
}


def write(ds: Dataset, syntax: str, path: Path) -> Path:
    """Write a little endian data set in another encoding, pixels included."""
    ds = copy.deepcopy(ds)
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = b"".join(ds.PixelData[at : at + 2][::-1] for at in range(0, len(ds.PixelData), 2))
    return write_part10(ds, path)


def digest_of(path: Path) -> str | None:
    with path.open("rb") as stream:
        syntax = read_file_meta(stream)
        return attributes_digest(stream, syntax)


def radiograph(**changes) -> Dataset:
    ds = build_dx(**changes)
    ds.PatientName = "M\u00fcller^Erika"
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 0, 12])
    item.add_new("LUTData", "US", [0, 100, 200, 4095])
    ds.VOILUTSequence = Sequence([item])
    ds.AnatomicRegionSequence = Sequence([coded("85562004", "SCT", "Hand")])
    return ds


@pytest.mark.parametrize("other", NATIVE)
def test_one_object_says_the_same_in_every_uncompressed_encoding(tmp_path, other):
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    two = write(radiograph(), other, tmp_path / "2")
    assert digest_of(one) == digest_of(two) is not None
    assert likeness(one, two) is Comparison.SAME


def test_another_character_set_of_the_same_text_makes_no_difference(tmp_path):
    latin = radiograph()
    latin.SpecificCharacterSet = "ISO_IR 100"
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert likeness(one, write(latin, ExplicitVRLittleEndian, tmp_path / "2")) is Comparison.SAME


def test_a_compressed_copy_is_the_same(tmp_path):
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    compressed = dcmread(one)
    compressed.compress(RLELossless, generate_instance_uid=False)
    assert likeness(one, write_part10(compressed, tmp_path / "2")) is Comparison.SAME


@pytest.mark.parametrize("name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_real_files_of_one_object_say_the_same(name):
    assert digest_of(Path(get_testdata_file("MR_small.dcm"))) == digest_of(Path(get_testdata_file(name)))


def add_private(ds):
    ds.private_block(0x0011, "BONEWATCH TEST", create=True).add_new(0x01, "LO", "odd")


def add_original_attributes(ds):
    item = Dataset()
    item.SourceOfPreviousValues = "ARCHIVE"
    ds.OriginalAttributesSequence = Sequence([item])


def undefine_lengths(ds):
    ds["AnatomicRegionSequence"].is_undefined_length = True
    ds.AnatomicRegionSequence[0].is_undefined_length_sequence_item = True


@pytest.mark.parametrize("change", [add_private, add_original_attributes, undefine_lengths])
def test_what_an_archive_adds_makes_no_difference(tmp_path, change):
    changed = radiograph()
    change(changed)
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert likeness(one, write(changed, ImplicitVRLittleEndian, tmp_path / "2")) is Comparison.SAME


def test_other_pixels_are_another_image(tmp_path):
    changed = radiograph()
    changed.PixelData = b"\x07" + changed.PixelData[1:]
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert likeness(one, write(changed, ExplicitVRLittleEndian, tmp_path / "2")) is Comparison.ANOTHER


def test_another_patient_is_a_correction(tmp_path):
    changed = radiograph()
    changed.PatientID = "CORRECTED"
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert likeness(one, write(changed, ImplicitVRLittleEndian, tmp_path / "2")) is Comparison.CORRECTED


def other_value(vr: str) -> object:
    numeric = {"US": 7, "SS": -7, "US or SS": 7, "IS": "7", "DS": "7"}
    texts = {"DA": "19990101", "TM": "0101", "UI": "1.2.7", "AS": "007D", "CS": "OTHER"}
    return (numeric | texts).get(vr, "other")


@pytest.mark.parametrize("keyword", sorted(READ_KEYWORDS - IN_OTHER_ENCODINGS))
def test_every_attribute_that_scope_and_report_read_is_compared(tmp_path, keyword):
    changed = radiograph()
    setattr(changed, keyword, other_value(dictionary_VR(keyword)))
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert digest_of(one) != digest_of(write(changed, ExplicitVRLittleEndian, tmp_path / "2"))


def chest() -> Sequence:
    return Sequence([coded("51185008", "SCT", "Chest")])


def request() -> Sequence:
    item = Dataset()
    item.RequestedProcedureDescription = "Thorax"
    return Sequence([item])


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("AnatomicRegionSequence", chest()),
        ("PrimaryAnatomicStructureSequence", chest()),
        ("SeriesDescription", "Thorax"),
        ("ProtocolName", "Thorax"),
        ("AcquisitionDeviceProcessingDescription", "Thorax"),
        ("RequestedProcedureDescription", "Thorax"),
        ("ScheduledProcedureStepDescription", "Thorax"),
        ("PerformedProcedureStepDescription", "Thorax"),
        ("ProcedureCodeSequence", chest()),
        ("RequestedProcedureCodeSequence", chest()),
        ("RequestAttributesSequence", request()),
        ("PixelIntensityRelationshipSign", 1),
        ("GreenPaletteColorLookupTableDescriptor", [256, 0, 8]),
        ("WindowWidth", "77"),
    ],
)
def test_words_about_the_body_and_the_display_are_compared(tmp_path, keyword, value):
    changed = radiograph()
    if keyword.endswith("Descriptor"):
        changed.add_new(keyword, "US", value)
    else:
        setattr(changed, keyword, value)
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    two = write(changed, ExplicitVRLittleEndian, tmp_path / "2")
    assert digest_of(one) != digest_of(two)
    assert likeness(one, two) is Comparison.CORRECTED


def test_an_entry_of_a_lookup_table_is_compared(tmp_path):
    changed = radiograph()
    changed.VOILUTSequence[0].LUTData = [0, 100, 201, 4095]
    one = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    assert digest_of(one) != digest_of(write(changed, ExplicitVRLittleEndian, tmp_path / "2"))


@pytest.mark.parametrize("module", READERS)
def test_no_attribute_is_read_that_is_not_compared(module):
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    words |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    read = {word for word in words if word != "UID" and word.isidentifier() and tag_for_keyword(word) is not None}
    assert read <= READ_KEYWORDS | IN_OTHER_ENCODINGS | set(DISPLAY) | set(LAYOUT) | set(READ_OTHERWISE)


def nested(payload: bytes, depth: int) -> bytes:
    """Return an implicit data set with `payload` in sequences within sequences, all of defined length."""
    encoded = struct.pack("<HHI", 0x0011, 0x1001, len(payload)) + payload
    for _level in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(encoded)) + encoded
        encoded = struct.pack("<HHI", 0x0028, 0x3010, len(item)) + item
    return encoded


def test_deep_sequences_take_no_memory_for_each_level(tmp_path):
    data_set = io.BytesIO(nested(bytes(1 << 20), depth=50))
    tracemalloc.start()
    try:
        assert attributes_digest(data_set, ImplicitVRLittleEndian) is not None
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_a_difference_deep_within_a_sequence_is_found():
    one, two = (io.BytesIO(nested(payload, depth=50)) for payload in (b"even", b"odd "))
    assert attributes_digest(one, ImplicitVRLittleEndian) != attributes_digest(two, ImplicitVRLittleEndian)


def test_what_cannot_be_read_is_another_image(tmp_path):
    whole = write(radiograph(), ExplicitVRLittleEndian, tmp_path / "1")
    broken = tmp_path / "2"
    broken.write_bytes(whole.read_bytes()[:-1])
    assert likeness(whole, broken) is Comparison.ANOTHER
    assert likeness(broken, broken) is Comparison.ANOTHER
    assert likeness(whole, tmp_path / "missing") is Comparison.UNKNOWN


def test_a_header_that_is_cut_off_has_no_digest(tmp_path):
    meta = encode_file_meta("1.2", "1.2.3", ImplicitVRLittleEndian)
    (tmp_path / "cut").write_bytes(meta + struct.pack("<HHI", 0x0008, 0x0060, 40) + b"CR")
    assert digest_of(tmp_path / "cut") is None
