"""Whether two files hold the same object in two uncompressed transfer syntaxes (PS3.5 Annex A).

A PACS that negotiates Explicit VR on one day and Implicit VR on the next sends other bytes for the same object, and is
right to expect Success for both.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom.datadict import dictionary_VR

from dicom_io.durable import remaining_bytes
from dicom_io.elements import ITEM, UNDEFINED_LENGTH, Element, Encoding, Walk, encoding_of, tag_text
from dicom_io.errors import HeaderError
from dicom_io.header import read_file_meta

NATIVE = frozenset(("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"))

_MAXIMUM_BYTES = 1 << 29  # two of them are held in memory
_TRAILING_PADDING = 0xFFFCFFFC  # PS3.10 7.2: carries nothing

# Bytes of one number, for the value representations that have a byte order (PS3.5 7.3).
_NUMBER_BYTES = {"AT": 2, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2, "FD": 8, "FL": 4}
_NUMBER_BYTES |= {"SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
_TEXT = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)

_Content = dict[int, object]


def same_object(one: Path, other: Path) -> bool:
    """Say whether two Part 10 files hold equal data sets, both in uncompressed transfer syntaxes.

    Compared are all data elements, in all items, by their values: without group lengths and trailing padding, without
    the padding of texts, and in one byte order. When in doubt the answer is no.
    """
    try:
        return _file_content(one) == _file_content(other)
    except (HeaderError, OSError, RecursionError):
        return False


def _file_content(path: Path) -> _Content:
    with path.open("rb") as stream:
        transfer_syntax = read_file_meta(stream)
        if transfer_syntax not in NATIVE:
            raise HeaderError("not an uncompressed transfer syntax")
        if remaining_bytes(stream) > _MAXIMUM_BYTES:
            raise HeaderError("too large to compare")
        return _content(stream, encoding_of(transfer_syntax))


def _content(stream: BinaryIO, encoding: Encoding, end: int | None = None) -> _Content:
    content: _Content = {}
    walk = Walk(stream, encoding, end)
    for element in walk.elements():
        # Group lengths (gggg,0000) are retired and say nothing; group FFFE holds delimiters only.
        if element.tag & 0xFFFF == 0 or element.tag == _TRAILING_PADDING or element.tag >> 16 == 0xFFFE:
            continue
        if element.tag in content:
            raise HeaderError(f"{tag_text(element.tag)} occurs twice")
        vr = _representation(element)
        stream.seek(element.offset)
        if vr == "SQ":
            content[element.tag] = _items(stream, element, encoding, walk.position)
        else:
            content[element.tag] = _value(stream.read(walk.position - element.offset), vr, encoding)
    return content


def _items(stream: BinaryIO, element: Element, encoding: Encoding, end: int) -> list[_Content]:
    # PS3.5 6.2.2: what was made UN stays Implicit VR Little Endian inside.
    inner = Encoding(implicit=True, little_endian=True) if element.vr == "UN" else encoding
    walk = Walk(stream, inner, end)
    contents = []
    for item in walk.elements():
        if item.tag == ITEM:
            stream.seek(item.offset)
            contents.append(_content(stream, inner, walk.position))
    return contents


def _value(value: bytes, vr: str | None, encoding: Encoding) -> bytes:
    """Return what the value means, the same for every encoding."""
    if vr is None or vr in _TEXT:
        return value.rstrip(b" \0")
    size = _NUMBER_BYTES.get(vr, 1)
    if encoding.little_endian or size == 1 or len(value) % size:
        return value
    return np.frombuffer(value, dtype=f"u{size}").byteswap().tobytes()


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
