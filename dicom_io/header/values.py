"""Values of a header as they are encoded, and the one way to read them: for tables, rules and reports alike.

Only bytes from the network are certain here, so the declared value representation is a hint: a text is a text whatever
its VR says, a number may be written as text or in binary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dicom_io.header.attributes import number
from dicom_io.header.printable import printable
from dicom_io.header.text import CharacterSet
from dicom_io.header.words import HeaderWords

_PADDING = " \0"  # PS3.5 6.2: both, whichever the VR asks for
_LARGEST_INTEGER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Value:
    """One value as it was encoded; `VR` is the dictionary's where the encoding tells none."""

    value: bytes
    VR: str
    is_little_endian: bool


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

    @property
    def keywords(self) -> frozenset[str]:
        """The attributes that are there, by keyword."""
        return frozenset(self._values)

    def get_item(self, keyword: str, /) -> Value | None:
        """Return a value as it is, None for an attribute that is not there (`dicom_io.header.attributes.Elements`)."""
        return self._values.get(keyword)

    def encoded(self, keyword: str) -> bytes:
        """Return the bytes of a value without its padding, none for an attribute that is not there."""
        return self._values[keyword].value.strip(_PADDING.encode()) if keyword in self._values else b""

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
        found = number(self, keyword)
        if found is None or not 0 <= found <= _LARGEST_INTEGER or found != int(found):
            return None
        return int(found)


def shown(text: str) -> str | None:
    """Return what of a text may be shown, None where nothing is left."""
    return printable(text).strip() or None
