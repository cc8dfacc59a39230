"""Values of a header as they are encoded, and the one way to read them: for tables, rules and reports alike.

Only bytes from the network are certain here, so the declared value representation is a hint: a text is a text whatever
its VR says, a number may be written as text or in binary.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from dicom_io.header_text import CharacterSet
from dicom_io.header_words import HeaderWords
from dicom_io.printable import printable

_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_DECIMAL = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_PADDING = " \0"  # PS3.5 6.2: both, whichever the VR asks for
_MOST_NUMBERS = 16


@dataclass(frozen=True, slots=True)
class Value:
    """One value as it was encoded; `vr` is the dictionary's where the encoding tells none."""

    encoded: bytes
    vr: str
    little_endian: bool


class HeaderValues:
    """The attributes of one data set that we read, by keyword.

    Parameters
    ----------
    values : mapping of str to Value
        Those that the data set has.
    words : HeaderWords
        What it says of the part of the body in codes and descriptions.
    transfer_syntax_uid : str
        Its transfer syntax.
    """

    def __init__(self, values: Mapping[str, Value], words: HeaderWords, transfer_syntax_uid: str) -> None:
        self._values = values
        self.words = words
        self.transfer_syntax_uid = transfer_syntax_uid
        self.character_set = CharacterSet(self.encoded("SpecificCharacterSet"))

    def encoded(self, keyword: str) -> bytes:
        """Return the bytes of a value without its padding, none for an attribute that is not there."""
        return self._values[keyword].encoded.strip(_PADDING.encode()) if keyword in self._values else b""

    def text(self, keyword: str, person_name: bool = False) -> str:
        """Return a text as the source has it, whatever characters that may be."""
        return self.character_set.decode(self.encoded(keyword), person_name)

    def shown_text(self, keyword: str) -> str | None:
        """Return a text that may be shown, None where there is none."""
        return shown(self.text(keyword))

    def word(self, keyword: str) -> str | None:
        """Return a value of the default repertoire, such as a CS, that may be shown; None where there is none."""
        return shown(self.encoded(keyword).decode("ascii", "replace").replace("\ufffd", "?"))

    def plain(self, keyword: str) -> str:
        """Return a value of the default repertoire as it is, empty where there is none."""
        return self.encoded(keyword).decode("latin-1")

    def integer(self, keyword: str) -> int | None:
        """Return a whole number that is not negative, None where there is none."""
        value = self._values.get(keyword)
        if value is None:
            return None
        if value.vr in ("US", "SS", "UL", "SL") and len(value.encoded) in (2, 4):
            found = int.from_bytes(value.encoded, "little" if value.little_endian else "big")
            return found if value.vr not in ("SS", "SL") or found < 1 << (8 * len(value.encoded) - 1) else None
        text = self.plain(keyword).strip()
        return int(text) if re.fullmatch(r"\+?\d{1,9}", text, re.ASCII) else None

    def decimals(self, keyword: str) -> tuple[float, ...]:
        """Return the numbers of a value; none at all where one of them is no finite number.

        A decimal comma is read as a point, as it is meant; the separator of values is the backslash.
        """
        value = self._values.get(keyword)
        if value is None:
            return ()
        code = _BINARY.get(value.vr)
        if code is not None:
            count = min(len(value.encoded) // struct.calcsize(code), _MOST_NUMBERS)
            order = "<" if value.little_endian else ">"
            found = struct.unpack_from(f"{order}{count}{code}", value.encoded)
        else:
            parts = [part.strip(_PADDING) for part in self.plain(keyword).split("\\")[:_MOST_NUMBERS]]
            if not all(_DECIMAL.fullmatch(part) for part in parts):
                return ()
            found = tuple(float(part.replace(",", ".")) for part in parts)
        return tuple(map(float, found)) if all(map(math.isfinite, found)) else ()


def shown(text: str) -> str | None:
    """Return what of a text may be shown, None where nothing is left."""
    return printable(text).strip() or None
