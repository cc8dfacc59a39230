"""Whether a second object under one SOP Instance UID is the same image: in another encoding, or with another header.

The same image comes again in other bytes for good reasons: an archive compresses it or sends Implicit VR, and a person
corrects the patient, the side or the accession number. So bytes are not its identity. Its pixels are, and what is said
about them is compared by value, the same for every encoding (PS3.5 Annex A).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_io.errors import HeaderError
from dicom_io.header.elements import ITEM, UNDEFINED_LENGTH, Element, Encoding, Walk, encoding_of, tag_text
from dicom_io.header.header import DEFLATED, inflate, read_data_set_values, read_file_meta, true_encoding
from dicom_io.header.text import CharacterSet
from dicom_io.pixels.digest_process import Unreadable, pixel_digest_apart

NATIVE_LITTLE = frozenset(("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", DEFLATED))

_PIXEL_DATA = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_MAXIMUM_VALUE_BYTES = 1 << 22
_ASCII = CharacterSet(b"")
# At the door the pixels need not be there; two files that are compared are read whole, one after the other.
_MAXIMUM_HEADER_BYTES = 1 << 26
_MAXIMUM_INFLATED_BYTES = 1 << 28

# Bytes of one number, for the value representations that have a byte order (PS3.5 7.3).
_NUMBER_BYTES = {"AT": 2, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2, "FD": 8, "FL": 4}
_NUMBER_BYTES |= {"SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
_TEXT = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)

DISPLAY = (
    *("PhotometricInterpretation", "BitsStored", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleIntercept", "RescaleSlope", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("VOILUTSequence", "PresentationLUTShape", "PixelIntensityRelationshipSign", "PixelSpacing"),
    *("NominalScannedPixelSpacing", "PixelAspectRatio"),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)
"""What becomes of stored values before anybody, or a model, sees them (PS3.3 C.7.6.3, C.11)."""
LAYOUT = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
"""How the bytes of Pixel Data are to be read: equal bytes are equal pixels where these are equal too."""
IN_OTHER_ENCODINGS = frozenset(("SpecificCharacterSet", *LAYOUT))
"""What a header may say in another way of the same texts and pixels, which are compared themselves."""

_Content = dict[int, object]


def _tags(*keywords: str) -> frozenset[int]:
    return frozenset(tag for tag in map(tag_for_keyword, keywords) if tag is not None)


_LAYOUT_TAGS = _tags(*LAYOUT)
_DISPLAY_TAGS = _tags(*DISPLAY)
_PHOTOMETRIC = _tags("PhotometricInterpretation")


class Comparison(StrEnum):
    """What a second object under a SOP Instance UID is to the first."""

    SAME = "same"
    CORRECTED = "corrected"
    ANOTHER = "another"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class _Outline:
    """The parts of a data set that are compared: a digest of what it says, and the raw bytes of its pixels."""

    attributes: str
    layout: _Content
    transfer_syntax: str
    pixel_bytes: str | None


def attributes_digest(data_set: BinaryIO, transfer_syntax_uid: str) -> str | None:
    """Return the identity of what an answer and its report depend on besides the pixels.

    That is all that `dicom_io.header.header` reads, for scope, tables and reports alike, and `DISPLAY`.

    Parameters
    ----------
    data_set : BinaryIO
        An encoded data set, from the stream's position on.
    transfer_syntax_uid : str
        Its encoding; the digest is the same for all of them.

    Returns
    -------
    str or None
        SHA-256, hexadecimal, of patient, order, anatomy and grey scale; None where they cannot be read.
    """
    try:
        said = _said(data_set, transfer_syntax_uid)
        stream, encoding = _laid_out(data_set, transfer_syntax_uid, _MAXIMUM_HEADER_BYTES)
        content, _ = _about_pixels(stream, encoding, hash_pixels=False)
    except (HeaderError, RecursionError):
        return None
    return _digest(said, content)


def likeness(stored: Path, arrived: Path) -> Comparison:
    """Tell what an object that arrived is to the one that is stored, both Part 10 files under one SOP Instance UID.

    1. The same pixels, by their bytes or else decoded, and nothing else that matters differs: SAME.
    2. The same pixels under another header: CORRECTED. So is a whole image in place of one that cannot be decoded, and
       any newer form of an object that has no pixels, for no answer depends on it.
    3. Otherwise ANOTHER, also where one of them can never be read; UNKNOWN where this try has failed.
    """
    try:
        one, other = _outline(stored), _outline(arrived)
    except (HeaderError, RecursionError):
        return Comparison.ANOTHER
    except OSError:
        return Comparison.UNKNOWN
    if one.pixel_bytes is None and other.pixel_bytes is None:
        return Comparison.SAME if one.attributes == other.attributes else Comparison.CORRECTED
    alike = Comparison.SAME if one.attributes == other.attributes else Comparison.CORRECTED
    return alike if _same_bytes(one, other) else _compared(stored, arrived, alike)


def _same_bytes(one: _Outline, other: _Outline) -> bool:
    syntaxes = {one.transfer_syntax, other.transfer_syntax}
    alike = len(syntaxes) == 1 or syntaxes <= NATIVE_LITTLE
    return alike and one.pixel_bytes == other.pixel_bytes and one.layout == other.layout


def _compared(stored: Path, arrived: Path, alike: Comparison) -> Comparison:
    """Decode both; `alike` is what they are if their pixels are the same."""
    before, after = pixel_digest_apart(stored), pixel_digest_apart(arrived)
    if any(isinstance(each, Unreadable) and not each.permanent for each in (before, after)):
        return Comparison.UNKNOWN
    if isinstance(after, Unreadable):
        return Comparison.ANOTHER
    if isinstance(before, Unreadable):
        return Comparison.CORRECTED
    return alike if before == after else Comparison.ANOTHER


def _outline(path: Path) -> _Outline:
    with path.open("rb") as file:
        transfer_syntax = read_file_meta(file)
        said = _said(file, transfer_syntax)
        stream, encoding = _laid_out(file, transfer_syntax, _MAXIMUM_INFLATED_BYTES)
        content, pixel_bytes = _about_pixels(stream, encoding, hash_pixels=True)
    layout = {tag: value for tag, value in content.items() if tag in _LAYOUT_TAGS}
    return _Outline(_digest(said, content), layout, transfer_syntax, pixel_bytes)


def _laid_out(data_set: BinaryIO, transfer_syntax_uid: str, limit: int) -> tuple[BinaryIO, Encoding]:
    stream = inflate(data_set, limit) if transfer_syntax_uid == DEFLATED else data_set
    return stream, true_encoding(stream, encoding_of(transfer_syntax_uid))


def _said(data_set: BinaryIO, transfer_syntax_uid: str) -> list[tuple[str, ...]]:
    """Return all that is read of the header, in one form for all encodings; the stream stays where it is."""
    start = data_set.tell()
    values = read_data_set_values(data_set, transfer_syntax_uid)
    data_set.seek(start)
    said: list[tuple[str, ...]] = []
    for keyword in sorted(values.keywords - IN_OTHER_ENCODINGS):
        found = values.get_item(keyword)
        if found is not None and (value := _value(found.value, found.VR, found.is_little_endian, values.character_set)):
            said.append((keyword, str(value)))
    said += [tuple(_text(part, values.character_set) for part in code) for code in values.words.regions]
    said += [(name, _text(text, values.character_set)) for name, text in values.words.descriptions]
    return said


def _about_pixels(stream: BinaryIO, encoding: Encoding, *, hash_pixels: bool) -> tuple[_Content, str | None]:
    """Return layout and display, and the digest of the encoded pixels where it is wanted and there are any."""
    content: _Content = {}
    pixel_bytes = None
    walk = Walk(stream, encoding)
    for element in walk.elements(before_tag=1 << 32 if hash_pixels else _PIXEL_DATA[0]):
        if element.tag in _PIXEL_DATA:
            pixel_bytes = _hashed(stream, element.offset, walk.position)
        elif element.tag in _DISPLAY_TAGS | _LAYOUT_TAGS:
            if element.tag in content:
                raise HeaderError(f"{tag_text(element.tag)} occurs twice")
            value = _read(stream, element, encoding, walk.position)
            if value not in ("", b"", []):
                content[element.tag] = value
    return content, pixel_bytes


def _hashed(stream: BinaryIO, start: int, end: int) -> str:
    digest = hashlib.sha256()
    stream.seek(start)
    while start < end:
        piece = stream.read(min(1 << 20, end - start))
        if not piece:
            raise HeaderError("the data set ends within its pixels")
        digest.update(piece)
        start += len(piece)
    return digest.hexdigest()


def _read(stream: BinaryIO, element: Element, encoding: Encoding, end: int) -> object:
    if end - element.offset > _MAXIMUM_VALUE_BYTES:
        raise HeaderError(f"the value of {tag_text(element.tag)} is longer than {_MAXIMUM_VALUE_BYTES} bytes")
    vr = _representation(element)
    if vr == "SQ":
        return _items(stream, element, encoding, end)
    stream.seek(element.offset)
    return _value(stream.read(end - element.offset), vr, encoding.little_endian, _ASCII)


def _items(stream: BinaryIO, element: Element, encoding: Encoding, end: int) -> list[_Content]:
    # PS3.5 6.2.2: what was made UN stays Implicit VR Little Endian inside.
    inner = Encoding(implicit=True, little_endian=True) if element.vr == "UN" else encoding
    stream.seek(element.offset)
    walk = Walk(stream, inner, end)
    contents = []
    for item in walk.elements():
        if item.tag == ITEM:
            stream.seek(item.offset)
            contents.append(_item(stream, inner, walk.position))
    return contents


def _item(stream: BinaryIO, encoding: Encoding, end: int) -> _Content:
    content: _Content = {}
    walk = Walk(stream, encoding, end)
    for element in walk.elements():
        # Group lengths (gggg,0000) are retired and say nothing; group FFFE holds delimiters only.
        if element.tag & 0xFFFF == 0 or element.tag >> 16 == 0xFFFE:
            continue
        content[element.tag] = _read(stream, element, encoding, walk.position)
    return content


def _value(value: bytes, vr: str | None, is_little_endian: bool, character_set: CharacterSet) -> str | bytes:
    """Return what the value means, the same for every encoding and character set."""
    if vr in ("DS", "IS"):
        return _numbers(value)
    if vr is None or vr in _TEXT:
        return _text(value, character_set, person_name=vr == "PN")
    size = _NUMBER_BYTES.get(vr, 1)
    if is_little_endian or size == 1 or len(value) % size:
        return value
    return np.frombuffer(value, dtype=f"u{size}").byteswap().tobytes()


def _text(value: bytes, character_set: CharacterSet, *, person_name: bool = False) -> str:
    text = character_set.decode(value.strip(b"\0 "), person_name)
    return "\\".join(part.strip(" \0\r\n\t") for part in text.split("\\"))


def _numbers(value: bytes) -> str:
    """Return decimal strings without their spelling: an archive that keeps numbers writes 0.15 for 0.150."""
    parts = value.decode("ascii", "replace").strip(" \0").split("\\")
    try:
        return "\\".join(repr(float(part)) for part in parts if part.strip())
    except ValueError:
        return "\\".join(parts)


def _representation(element: Element) -> str | None:
    """Return the value representation, from the dictionary where the encoding does not tell; None if nobody knows.

    The dictionary's choices, such as "US or SS", matter for byte order only, which Implicit VR never changes.
    """
    if element.vr is not None and element.vr != "UN":
        return element.vr
    if element.length == UNDEFINED_LENGTH:
        return "SQ"  # PS3.5 6.2.2
    try:
        return str(dictionary_VR(element.tag))
    except KeyError:
        return None


def _digest(said: list[tuple[str, ...]], content: _Content) -> str:
    display = {tag: value for tag, value in content.items() if tag in _DISPLAY_TAGS}
    for tag in _PHOTOMETRIC & display.keys():
        # RGB becomes YBR_RCT and back when it is compressed: the decoded values say what colour a pixel has.
        if not str(display[tag]).startswith(("MONOCHROME", "PALETTE")):
            display[tag] = "colour"
    return hashlib.sha256(repr((said, sorted(display.items()))).encode()).hexdigest()
