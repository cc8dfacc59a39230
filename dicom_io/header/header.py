"""What an instance says of itself before its pixels: identity, kind and geometry (PS3.3 C.7, PS3.10 Section 7)."""

from __future__ import annotations

import io
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_io.errors import HeaderError, IncompleteHeader
from dicom_io.header.anatomy import body_part
from dicom_io.header.elements import Element, Encoding, Walk, encoding_of, tag_text
from dicom_io.header.text import date
from dicom_io.header.values import HeaderValues, Value, shown
from dicom_io.header.words import HeaderWords
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

_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# One of these twice is two truths, and readers differ in which they take (PS3.5 7.1: at most once). One that is longer
# than anything we read is no value of its kind.
_DECISIVE = (
    *_IDENTIFIERS,
    *("SpecificCharacterSet", "ImageType", "StudyDate", "AccessionNumber", "Modality", "PresentationIntentType"),
    *("PatientID", "BodyPartExamined", "ViewPosition", "Laterality", "ImageLaterality"),
    *("PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns"),
)
# What a report takes over as well
_DESCRIPTIVE = (
    *("StudyTime", "ReferringPhysicianName", "StudyDescription", "TimezoneOffsetFromUTC"),
    *("PatientName", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize"),
    *("PatientWeight", "EthnicGroup", "PatientComments", "DeidentificationMethod"),
    *("StudyID", "SeriesNumber", "InstanceNumber", "PatientOrientation", "ImagerPixelSpacing"),
)
READ_KEYWORDS = frozenset((*_DECISIVE, *_DESCRIPTIVE))
"""All that is read of a header, besides the words about the part of the body (`dicom_io.header.words`)."""
_TAGS = {tag_for_keyword(keyword): keyword for keyword in READ_KEYWORDS}


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
            transfer_syntax = walk.value(element, _MAXIMUM_VALUE_BYTES).decode("latin-1").strip(" \0\r\n\t")
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
    return instance_header(read_data_set_values(stream, transfer_syntax_uid))


def read_values(path: Path) -> HeaderValues:
    """Read all that we read of a stored file's header, as it is encoded; errors as `read_header`."""
    with path.open("rb") as stream:
        return read_data_set_values(stream, read_file_meta(stream))


def read_data_set_values(stream: BinaryIO, transfer_syntax_uid: str) -> HeaderValues:
    """Read the values of an encoded data set that begins at the stream's position, up to the pixels.

    Raises
    ------
    HeaderError
        It cannot be parsed.
    """
    if transfer_syntax_uid == DEFLATED:
        stream = inflate(stream, _MAXIMUM_INFLATED_BYTES)
    encoding = true_encoding(stream, encoding_of(transfer_syntax_uid))
    walk = Walk(stream, encoding)
    values: dict[str, Value] = {}
    words = HeaderWords()
    beginning = walk.position
    for element in walk.elements(before_tag=_BEFORE_TAG):
        keyword = _TAGS.get(element.tag)
        if keyword is not None:
            if keyword in values and keyword in _DECISIVE:
                raise HeaderError(f"{tag_text(element.tag)} occurs twice")
            read = walk.value if keyword in _DECISIVE else walk.beginning
            values[keyword] = Value(
                read(element, _MAXIMUM_VALUE_BYTES), _representation(element), encoding.little_endian
            )
        words.read(walk, element)
    if walk.position == beginning:
        raise HeaderError("this is not a DICOM data set")
    with suppress(HeaderError):
        stream.seek(walk.position)
        behind = Walk(stream, encoding, most=_MOST_BEHIND)
        for element in behind.elements(before_tag=_BEFORE_LAST_TAG):
            words.read(behind, element)
    return HeaderValues(values, words, transfer_syntax_uid)


def _representation(element: Element) -> str:
    """Return the value representation, the dictionary's where the encoding tells none."""
    return element.vr if element.vr not in (None, "UN") else dictionary_VR(element.tag)


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


def instance_header(values: HeaderValues) -> InstanceHeader:
    """Make a header of its values.

    Raises
    ------
    IncompleteHeader
        An identifying attribute is missing or malformed.
    """
    words, text = values.words, values.character_set.decode
    regions = tuple(Concept(*(shown(text(part)) or "" for part in code)) for code in words.regions)
    image_type = values.word("ImageType")
    return InstanceHeader(
        sop_instance_uid=_uid(values, "SOPInstanceUID"),
        sop_class_uid=_uid(values, "SOPClassUID"),
        series_instance_uid=_uid(values, "SeriesInstanceUID"),
        study_instance_uid=_uid(values, "StudyInstanceUID"),
        transfer_syntax_uid=values.transfer_syntax_uid,
        modality=values.word("Modality"),
        body_part_examined=body_part(values.word("BodyPartExamined"), regions),
        laterality=values.word("ImageLaterality") or values.word("Laterality"),
        view_position=values.word("ViewPosition"),
        image_type=tuple(part.strip() for part in image_type.split("\\")) if image_type else (),
        presentation_intent_type=values.word("PresentationIntentType"),
        photometric_interpretation=values.word("PhotometricInterpretation"),
        rows=values.integer("Rows"),
        columns=values.integer("Columns"),
        # Absent or nonsense counts as one; the pixels will tell the truth.
        number_of_frames=max(1, values.integer("NumberOfFrames") or 1),
        patient_id=values.shown_text("PatientID"),
        issuer_of_patient_id=values.shown_text("IssuerOfPatientID"),
        accession_number=values.shown_text("AccessionNumber"),
        study_date=date(values.plain("StudyDate")) or None,
        anatomic_regions=regions,
        descriptions=tuple((name, shown(text(value)) or "") for name, value in words.descriptions),
    )


def _uid(values: HeaderValues, keyword: str) -> str:
    uid = values.plain(keyword).strip()
    if not uid:
        raise IncompleteHeader(f"{keyword} {_named(keyword)} is missing or empty")
    if not is_safe_uid(uid):
        # The value itself stays out of the message: what is no UID may be anything, a name included.
        raise IncompleteHeader(f"{keyword} {_named(keyword)} is not a UID")
    return uid


def _named(keyword: str) -> str:
    return tag_text(next(tag for tag, known in _TAGS.items() if known == keyword and tag is not None))
