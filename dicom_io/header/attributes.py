"""Values of single attributes, read from their bytes, whatever value representation the writer gave them.

Real headers hold a Rescale Slope as UT, a Pixel Padding Value as SS over unsigned pixels, a window with a decimal
comma. pydicom converts by the declared VR, on access, and raises what it likes. Here a value that cannot be read is
None, nothing is raised, and nothing of a value goes into a message.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable
from typing import Any, Protocol

from pydicom.datadict import dictionary_description, dictionary_VR

# Of a value that should have one or two numbers, so many are looked at.
MOST_VALUES = 64
MOST_BYTES = 4096
LONGEST_NUMBER = 64
CUT = "..."
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_TEXT = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)
_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]{1,4})?")
# 2,048 may be 2048 or 2.048; 1,000 is what a program prints that writes three digits behind its comma.
_AMBIGUOUS = re.compile(r"[+-]?[1-9][0-9]{0,2},(?!000)[0-9]{3}")


class Elements(Protocol):
    """A data set, or what of it was read by other means (`dicom_io.header.values`)."""

    def get_item(self, key: Any, /) -> Any:
        """Return an element by keyword or tag, with `value`, `VR` and `is_little_endian`; None where there is none."""


def numbers(ds: Elements, keyword: str | int) -> tuple[float | None, ...]:
    """Return the values of a numeric attribute, given as keyword or tag; empty where it is missing.

    A value that is no finite number is None.

    A decimal comma is read as a point (PS3.5 6.2 knows the point only), unless the value could as well be a whole
    number with a separator of thousands. An empty value among others is None, too.
    """
    element = ds.get_item(keyword)
    if element is None:
        return ()
    return tuple(_number(value) for value in _values(element, keyword))


def number(ds: Elements, keyword: str | int) -> float | None:
    """Return the first value of a numeric attribute, None where it is missing, empty or not a number."""
    return next(iter(numbers(ds, keyword)), None)


def words(ds: Elements, keyword: str, *, signed: bool) -> tuple[int | None, ...]:
    """Return the values of an attribute that is US or SS, with the sign that the standard gives it, not its own VR.

    Which of the two it is depends on other attributes, in most cases Pixel Representation (PS3.5 Annex A; PS3.3
    C.7.5.1.1.2, C.11.1.1, C.11.2.1.1), and writers often choose the other. Both have the same 16 bits.
    """
    return tuple(as_word(value, signed=signed) for value in numbers(ds, keyword))


def as_word(value: float | None, *, signed: bool) -> int | None:
    """Return a whole number of 16 bits, written with or without sign, with the right one; None where it is none."""
    if value is None or value != int(value) or not -32768 <= value <= 65535:
        return None
    word = int(value) & 0xFFFF
    return word - 65536 if signed and word >= 32768 else word


def term(ds: Elements, keyword: str) -> str:
    """Return the first value of a code string in capitals, as the standard's terms are; empty where it is missing."""
    element = ds.get_item(keyword)
    value = "" if element is None else next(iter(_values(element, keyword)), "")
    return value.strip(" \0\t\r\n").upper() if isinstance(value, str) else ""


def is_empty(ds: Elements, keyword: str) -> bool:
    """Tell whether an attribute is missing or has no value, so that there is nothing in it to be unreadable."""
    element = ds.get_item(keyword)
    return element is None or not any(not isinstance(v, str) or v.strip(" \0") for v in _values(element, keyword))


def name_of(keyword: str) -> str:
    """Return an attribute's name as the standard prints it, such as Rescale Slope."""
    return str(dictionary_description(keyword))


def _values(element: Any, keyword: str | int) -> list[Any]:
    value = element.value
    if isinstance(value, bytes):
        vr = element.VR if element.VR in _BINARY or element.VR in _TEXT else dictionary_VR(keyword)
        code = "H" if vr in ("US or SS", "US or OW") else _BINARY.get(vr)
        if code is None:
            # What is cut off must not be read as another number
            text = value[:MOST_BYTES].decode("latin-1") + (CUT if len(value) > MOST_BYTES else "")
            return text.split("\\")[:MOST_VALUES]
        size = struct.calcsize(code)
        count = min(len(value) // size, MOST_VALUES)
        # a value that was set by a program rather than read has no byte order of its own
        order = "<" if getattr(element, "is_little_endian", True) else ">"
        return list(struct.unpack(f"{order}{count}{code}", value[: count * size]))
    if value is None:
        return []
    if isinstance(value, str):
        return value.split("\\")[:MOST_VALUES]
    return list(value)[:MOST_VALUES] if isinstance(value, Iterable) else [value]


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        text = value.strip(" \0\t\r\n")
        if len(text) > LONGEST_NUMBER or not _NUMBER.fullmatch(text) or _AMBIGUOUS.fullmatch(text):
            return None
        value = text.replace(",", ".")
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
