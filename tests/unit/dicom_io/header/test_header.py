import io
import random
import struct
import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_io.errors import HeaderError, IncompleteHeader
from dicom_io.header.file_meta import encode_file_meta
from dicom_io.header.header import inflate, read_data_set_header, read_header
from tests.builders import build_dx, part10_bytes, write_part10

EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"


def explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    length = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    long = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    return head + (struct.pack("<HI", 0, length) if long else struct.pack("<H", length)) + value


IDENTITY = (
    explicit(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.1\0"),
    explicit(0x00080018, b"UI", b"1.2.3.4\0"),
    explicit(0x0020000D, b"UI", b"1.2.3\0"),
    explicit(0x0020000E, b"UI", b"1.2.3.5\0"),
)


def read(*elements: bytes, transfer_syntax: str = EXPLICIT):
    return read_data_set_header(io.BytesIO(b"".join(elements)), transfer_syntax)


@pytest.mark.parametrize(
    "syntax", [EXPLICIT, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_the_header_reads_the_same_in_every_encoding(syntax):
    header = read_header(part10_bytes(build_dx(transfer_syntax=syntax, NumberOfFrames=1)))
    assert header.transfer_syntax_uid == syntax
    assert (header.rows, header.columns, header.number_of_frames) == (24, 32, 1)
    assert (header.modality, header.body_part_examined, header.laterality) == ("DX", "HAND", "R")
    assert header.image_type == ("ORIGINAL", "PRIMARY", "")
    assert (header.presentation_intent_type, header.photometric_interpretation) == ("FOR PRESENTATION", "MONOCHROME2")
    assert (header.patient_id, header.accession_number, header.study_date) == ("TEST-0001", "TEST0001", "20240102")


def test_a_file_a_stream_and_bytes_give_the_same_header(tmp_path):
    path = write_part10(build_dx(), tmp_path / "image.dcm")
    with path.open("rb") as stream:
        assert read_header(path) == read_header(stream) == read_header(path.read_bytes())


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_bigendian.dcm",
        "JPEG2000.dcm",
        "image_dfl.dcm",
        "693_J2KR.dcm",
        "SC_rgb_rle.dcm",
        "reportsi.dcm",
        "CT_small.dcm",
    ],
)
def test_the_header_of_a_real_file_agrees_with_pydicom(name):
    path = Path(get_testdata_file(name))
    ds = dcmread(path, stop_before_pixels=True)
    header = read_header(path)
    assert header.sop_instance_uid == ds.SOPInstanceUID
    assert header.study_instance_uid == ds.StudyInstanceUID
    assert header.transfer_syntax_uid == ds.file_meta.TransferSyntaxUID
    assert (header.rows, header.columns) == (ds.get("Rows"), ds.get("Columns"))
    assert header.modality == ds.Modality


def with_patient_id(character_set: bytes, patient_id: bytes):
    return read(
        explicit(0x00080005, b"CS", character_set),
        *IDENTITY[:2],
        explicit(0x00100020, b"LO", patient_id),
        *IDENTITY[2:],
    )


def test_a_patient_id_is_decoded_by_its_character_set():
    assert with_patient_id(b"ISO_IR 144", "Я-1 ".encode("iso8859-5")).patient_id == "Я-1"


def test_an_unknown_character_set_hurts_nobody():
    assert with_patient_id(b"NOSUCH", b"\xff1").patient_id == "ÿ1"


def test_a_data_set_that_mislabels_its_encoding_is_read_as_it_is():
    part10 = part10_bytes(build_dx(transfer_syntax=ImplicitVRLittleEndian))
    implicit = io.BytesIO(part10[part10.index(b"\x08\x00\x05\x00") :])
    assert read_data_set_header(implicit, EXPLICIT).modality == "DX"


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_identifier_is_named(missing):
    elements = [each for number, each in enumerate(IDENTITY) if number != missing]
    with pytest.raises(IncompleteHeader, match=r"\((0008|0020),00.. ?.*\) is missing"):
        read(*elements)


@pytest.mark.parametrize("uid", [b"../../../../etc/passwd", b"1.2.3/4 ", b"1..2", b"MUELLER^ANNA", b"1." + b"2" * 64])
def test_an_identifier_that_is_no_uid_is_refused_without_quoting_it(uid):
    with pytest.raises(IncompleteHeader) as caught:
        read(IDENTITY[0], explicit(0x00080018, b"UI", uid), *IDENTITY[2:])
    assert "is not a UID" in str(caught.value)
    assert uid.decode().strip() not in str(caught.value)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ((), "empty"),
        ((b"This is a text file, whatever its name says.",), "not a DICOM data set"),
        ((*IDENTITY[:2], explicit(0x00100020, b"LO", b"ID", length=65000)), "reaches beyond the end"),
        ((*IDENTITY[:2], explicit(0x00104000, b"UT", b"", length=0xFFFFFFF0)), "reaches beyond the end"),
        ((*IDENTITY[:2], IDENTITY[2][:6]), "ends within"),
        ((IDENTITY[0], IDENTITY[1], IDENTITY[1]), "occurs twice"),
        ((explicit(0x00081140, b"SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff", length=0xFFFFFFFF),), "ends within"),
        ((explicit(0x00081140, b"SQ", IDENTITY[0], length=0xFFFFFFFF),), "not properly nested"),
    ],
)
def test_what_does_not_add_up_is_a_header_error(elements, reason):
    with pytest.raises(HeaderError, match=reason):
        read(*elements)


def test_sequences_nested_without_end_are_refused_and_not_recursed_into():
    level = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + explicit(0x00081140, b"SQ", b"", length=0xFFFFFFFF)
    with pytest.raises(HeaderError, match="nested deeper"):
        read(explicit(0x00081140, b"SQ", level * 5000, length=0xFFFFFFFF))


def test_a_nested_identifier_is_not_taken_for_the_outer_one():
    item = explicit(0x0020000D, b"UI", b"9.9.9\0")
    inner = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(item)) + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    header = read(*IDENTITY[:2], explicit(0x00081140, b"SQ", inner, length=0xFFFFFFFF), *IDENTITY[2:])
    assert header.study_instance_uid == "1.2.3"


def test_pixels_are_never_reached_however_much_they_claim():
    header = read(
        *IDENTITY,
        explicit(0x00280010, b"US", struct.pack("<H", 46341)),
        explicit(0x7FE00010, b"OW", b"", length=0xFFFFFFF0),
    )
    assert header.rows == 46341


def test_a_deflate_bomb_is_inflated_only_up_to_the_limit():
    deflater = zlib.compressobj(wbits=-15)
    bomb = deflater.compress(bytes(10_000_000)) + deflater.flush()
    assert inflate(io.BytesIO(bomb), 1_000).read() == bytes(1_000)


def test_what_is_not_deflated_is_refused():
    with pytest.raises(HeaderError, match="inflated"):
        read(b"\xff" * 64, transfer_syntax=DEFLATED)


def test_nonsense_in_number_of_frames_counts_as_one():
    for value in (b"1A", b"-3", b"0 ", b"1.5 ", b"9" * 40):
        assert read(*IDENTITY, explicit(0x00280008, b"IS", value)).number_of_frames == 1


def test_a_group_length_that_lies_does_not_matter():
    part10 = bytearray(encode_file_meta("1.2.840.10008.5.1.4.1.1.1", "1.2.3.4", EXPLICIT) + b"".join(IDENTITY))
    part10[140:144] = b"\xff\xff\xff\x7f"
    assert read_header(bytes(part10)).sop_instance_uid == "1.2.3.4"


@pytest.mark.parametrize("content", [b"", b"DICM", bytes(128) + b"DICM", b"%PDF-1.4" + bytes(400)])
def test_what_is_not_a_part_10_file_is_refused(content):
    with pytest.raises(HeaderError):
        read_header(content)


def test_our_file_meta_information_is_readable_by_pydicom():
    ds = dcmread(io.BytesIO(encode_file_meta("1.2.840.10008.5.1.4.1.1.1", "1.2.3.4", EXPLICIT) + b"".join(IDENTITY)))
    assert ds.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert ds.file_meta.TransferSyntaxUID == EXPLICIT
    assert ds.StudyInstanceUID == "1.2.3"


@pytest.mark.parametrize("syntax", [EXPLICIT, ImplicitVRLittleEndian, ExplicitVRBigEndian, DEFLATED])
def test_a_damaged_file_gives_a_header_or_a_header_error_and_nothing_else(syntax):
    part10 = part10_bytes(build_dx(transfer_syntax=syntax))
    chance = random.Random(7)
    damaged = [part10[:length] for length in range(128, 1500, 7)]
    for _number in range(250):
        copy = bytearray(part10)
        for _change in range(chance.randint(1, 6)):
            copy[chance.randrange(132, 1500)] = chance.choice((0, 1, 0x40, 0x7F, 0xFE, 0xFF, chance.randrange(256)))
        damaged.append(bytes(copy))
    results = []
    for each in damaged:
        try:
            results.append(read_header(each).sop_instance_uid)
        except HeaderError:
            results.append(None)
    assert None in results
    assert any(results)
