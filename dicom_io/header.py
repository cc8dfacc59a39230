"""What an instance says of itself before its pixels: identity, kind and geometry (PS3.3 C.7, PS3.10 Section 7)."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pydicom.charset import python_encoding

from dicom_io.anatomy import body_part
from dicom_io.elements import Encoding, Walk, encoding_of, tag_text
from dicom_io.errors import HeaderError, IncompleteHeader
from dicom_io.header_words import HeaderWords
from dicom_io.types import Concept, InstanceHeader
from dicom_io.uids import is_safe_uid

DEFLATED = "1.2.840.10008.1.2.1.99"

_PREAMBLE_LENGTH = 128
_META_ENCODING = Encoding(implicit=False, little_endian=True)  # PS3.10 7.1
_MAXIMUM_META_BYTES = 1 << 18
_MAXIMUM_VALUE_BYTES = 1 << 16
# What inflates to more than this before group 0029 is a bomb; real headers inflate to some kilobytes.
_MAXIMUM_INFLATED_BYTES = 1 << 26
# What identifies and describes an image stands in the groups up to 0028, and all of them must be readable.
_BEFORE_TAG = 0x00290000
# Behind them stand private groups that devices fill with what they like, and a few more words about the part of the
# body. These are read as far as that is possible.
_BEFORE_LAST_TAG = 0x52009231
_MOST_BEHIND = 20_000

_GROUP_LENGTH = 0x00020000
_TRANSFER_SYNTAX = 0x00020010
_CHARACTER_SET = 0x00080005
_IMAGE_TYPE = 0x00080008
_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_STUDY_DATE = 0x00080020
_ACCESSION_NUMBER = 0x00080050
_MODALITY = 0x00080060
_PRESENTATION_INTENT = 0x00080068
_PATIENT_ID = 0x00100020
_ISSUER_OF_PATIENT_ID = 0x00100021
_BODY_PART = 0x00180015
_VIEW_POSITION = 0x00185101
_STUDY_INSTANCE = 0x0020000D
_SERIES_INSTANCE = 0x0020000E
_LATERALITY = 0x00200060
_IMAGE_LATERALITY = 0x00200062
_PHOTOMETRIC = 0x00280004
_FRAMES = 0x00280008
_ROWS = 0x00280010
_COLUMNS = 0x00280011

_KEYWORDS = {
    _SOP_CLASS: "SOPClassUID",
    _SOP_INSTANCE: "SOPInstanceUID",
    _STUDY_INSTANCE: "StudyInstanceUID",
    _SERIES_INSTANCE: "SeriesInstanceUID",
}

_WANTED = frozenset(
    (
        _CHARACTER_SET,
        _IMAGE_TYPE,
        _SOP_CLASS,
        _SOP_INSTANCE,
        _STUDY_DATE,
        _ACCESSION_NUMBER,
        _MODALITY,
        _PRESENTATION_INTENT,
        _PATIENT_ID,
        _ISSUER_OF_PATIENT_ID,
        _BODY_PART,
        _VIEW_POSITION,
        _STUDY_INSTANCE,
        _SERIES_INSTANCE,
        _LATERALITY,
        _IMAGE_LATERALITY,
        _PHOTOMETRIC,
        _FRAMES,
        _ROWS,
        _COLUMNS,
    )
)


def read_header(source: Path | BinaryIO | bytes) -> InstanceHeader:
    """Read the header of a Part 10 file, up to the pixels and never into them.

    Parameters
    ----------
    source : Path, BinaryIO or bytes
        A file, a seekable stream at its beginning, or the whole file's bytes.

    Raises
    ------
    IncompleteHeader
        An identifying attribute is missing or malformed.
    HeaderError
        Anything else: not a Part 10 file, cut off, or not a data set.
    OSError
        The file cannot be opened or read.
    """
    if isinstance(source, bytes):
        return read_header(io.BytesIO(source))
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return read_header(stream)
    return read_data_set_header(source, read_file_meta(source))


def read_file_meta(stream: BinaryIO) -> str:
    """Read preamble and file meta information (PS3.10 7.1), leave `stream` at the data set, return the transfer syntax.

    Raises
    ------
    HeaderError
        There is no such thing here, or it names no transfer syntax.
    """
    start = stream.tell()
    if stream.read(_PREAMBLE_LENGTH + 4)[_PREAMBLE_LENGTH:] != b"DICM":
        raise HeaderError("not a DICOM Part 10 file: the prefix DICM is missing")
    # The group length may lie: the group ends where a walk meets it, or else where another group begins.
    meta = io.BytesIO(stream.read(_MAXIMUM_META_BYTES))
    walk = Walk(meta, _META_ENCODING)
    transfer_syntax, declared_end = "", -1
    for element in walk.elements(before_tag=0x00030000):
        if element.tag == _GROUP_LENGTH and element.length == 4:
            declared_end = walk.position + int.from_bytes(walk.value(element, 4), "little")
        elif element.tag == _TRANSFER_SYNTAX:
            transfer_syntax = _text(walk.value(element, _MAXIMUM_VALUE_BYTES))
        if walk.position == declared_end:
            break
    if not is_safe_uid(transfer_syntax):
        raise HeaderError("the file meta information names no transfer syntax")
    stream.seek(start + _PREAMBLE_LENGTH + 4 + walk.position)
    return transfer_syntax


def read_data_set_header(stream: BinaryIO, transfer_syntax_uid: str) -> InstanceHeader:
    """Read the header of an encoded data set that begins at the stream's position.

    Raises
    ------
    IncompleteHeader, HeaderError
        As `read_header`.
    """
    if transfer_syntax_uid == DEFLATED:
        stream = inflate(stream, _MAXIMUM_INFLATED_BYTES)
    encoding = true_encoding(stream, encoding_of(transfer_syntax_uid))
    walk = Walk(stream, encoding)
    values: dict[int, bytes] = {}
    words = HeaderWords()
    beginning = walk.position
    for element in walk.elements(before_tag=_BEFORE_TAG):
        if element.tag in _WANTED:
            if element.tag in values:
                # PS3.5 7.1: at most once. Two values for one tag are two truths, and readers differ in which they take.
                raise HeaderError(f"{tag_text(element.tag)} occurs twice")
            values[element.tag] = walk.value(element, _MAXIMUM_VALUE_BYTES)
        words.read(walk, element)
    if walk.position == beginning:
        raise HeaderError("this is not a DICOM data set")
    with suppress(HeaderError):
        stream.seek(walk.position)
        behind = Walk(stream, encoding, most=_MOST_BEHIND)
        for element in behind.elements(before_tag=_BEFORE_LAST_TAG):
            words.read(behind, element)
    return _header(values, words, encoding, transfer_syntax_uid)


def inflate(stream: BinaryIO, limit: int) -> BinaryIO:
    """Return the first `limit` bytes of what the rest of `stream` inflates to (PS3.5 A.5: raw deflate, RFC 1951).

    Raises
    ------
    HeaderError
        The bytes are not deflated.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = io.BytesIO()
    try:
        while inflated.tell() < limit and not inflater.eof:
            chunk = inflater.unconsumed_tail or stream.read(1 << 16)
            if not chunk:
                break
            inflated.write(inflater.decompress(chunk, limit - inflated.tell()))
    except zlib.error as error:
        raise HeaderError("the deflated data set cannot be inflated") from error
    inflated.seek(0)
    return inflated


def true_encoding(stream: BinaryIO, encoding: Encoding) -> Encoding:
    """Notice implicit elements under an explicit transfer syntax, or the reverse, as pydicom does.

    Some devices mislabel their objects. Two capitals stand where a 16 bit half of a length would be: as a length they
    would mean a first element of 16 KiB or more, which no data set begins with.
    """
    start = stream.tell()
    head = stream.read(6)
    stream.seek(start)
    if len(head) < 6:
        raise HeaderError("the data set is empty")
    looks_explicit = head[4:6].isalpha() and head[4:6].isupper()
    return Encoding(implicit=not looks_explicit, little_endian=encoding.little_endian)


def _header(
    values: Mapping[int, bytes], words: HeaderWords, encoding: Encoding, transfer_syntax_uid: str
) -> InstanceHeader:
    def text(tag: int) -> str | None:
        return _text(values.get(tag, b"")) or None

    codec = codec_of(values.get(_CHARACTER_SET, b""))
    regions = tuple(Concept(*(_text(part, codec) for part in code)) for code in words.regions)
    return InstanceHeader(
        sop_instance_uid=_uid(values, _SOP_INSTANCE),
        sop_class_uid=_uid(values, _SOP_CLASS),
        series_instance_uid=_uid(values, _SERIES_INSTANCE),
        study_instance_uid=_uid(values, _STUDY_INSTANCE),
        transfer_syntax_uid=transfer_syntax_uid,
        modality=text(_MODALITY),
        body_part_examined=body_part(text(_BODY_PART), regions),
        laterality=text(_IMAGE_LATERALITY) or text(_LATERALITY),
        view_position=text(_VIEW_POSITION),
        image_type=tuple(part.strip() for part in (text(_IMAGE_TYPE) or "").split("\\")) if text(_IMAGE_TYPE) else (),
        presentation_intent_type=text(_PRESENTATION_INTENT),
        photometric_interpretation=text(_PHOTOMETRIC),
        rows=_unsigned_short(values.get(_ROWS, b""), encoding),
        columns=_unsigned_short(values.get(_COLUMNS, b""), encoding),
        number_of_frames=_frames(text(_FRAMES)),
        patient_id=_text(values.get(_PATIENT_ID, b""), codec) or None,
        issuer_of_patient_id=_text(values.get(_ISSUER_OF_PATIENT_ID, b""), codec) or None,
        accession_number=_text(values.get(_ACCESSION_NUMBER, b""), codec) or None,
        study_date=text(_STUDY_DATE),
        anatomic_regions=regions,
        descriptions=tuple((name, _text(value, codec)) for name, value in words.descriptions),
    )


def _uid(values: Mapping[int, bytes], tag: int) -> str:
    uid = _text(values.get(tag, b""))
    if not uid:
        raise IncompleteHeader(f"{_KEYWORDS[tag]} {tag_text(tag)} is missing or empty")
    if not is_safe_uid(uid):
        # The value itself stays out of the message: what is no UID may be anything, a name included.
        raise IncompleteHeader(f"{_KEYWORDS[tag]} {tag_text(tag)} is not a UID")
    return uid


def _text(value: bytes, codec: str = "ascii") -> str:
    """Decode without ever failing; both paddings of PS3.5 6.2 are removed, whichever the VR asks for."""
    return value.decode(codec, "replace").replace("\ufffd", "?").strip(" \0\r\n\t")


def codec_of(character_set: bytes) -> str:
    """Return the Python codec for Specific Character Set (PS3.3 C.12.1.1.2); the first known term of several."""
    for term in _text(character_set).split("\\"):
        if term.strip() in python_encoding:
            return str(python_encoding[term.strip()])
    return "iso8859"


def _unsigned_short(value: bytes, encoding: Encoding) -> int | None:
    return int.from_bytes(value, "little" if encoding.little_endian else "big") if len(value) == 2 else None


def _frames(text: str | None) -> int:
    """Return Number of Frames (0028,0008); absent or nonsense counts as one, the pixels will tell the truth."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 12:
        return 1
    return max(1, int(text))
