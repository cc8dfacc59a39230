"""Text of a header: its character set, its dates and times (PS3.5 6.1 and 6.2)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import datetime

from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS, PersonName

UTF_8 = ("ISO_IR 192",)
_NUMBERS = (100, 101, 109, 110, 144, 127, 126, 138, 148, 203, 13, 166)
ALONE = frozenset(f"ISO_IR {number}" for number in (*_NUMBERS, 192)) | {"GB18030", "GBK"}
"""Defined Terms for a character set without code extensions (PS3.3 Tables C.12-2 and C.12-5)."""
EXTENDED = frozenset(f"ISO 2022 IR {number}" for number in (6, *_NUMBERS, 87, 159, 149, 58))
"""Defined Terms for character sets with code extensions (PS3.3 Tables C.12-3 and C.12-4)."""
_LATIN_1, _LATIN_9 = "ISO 2022 IR 100", frozenset({"ISO_IR 203", "ISO 2022 IR 203"})
_RARELY_KNOWN = _LATIN_9 | {"GBK"}  # dciodvfy, for one, takes their letters for errors
_TO_GB_2312 = "\x1b$)A"  # pydicom decodes what follows and leaves this
_MULTI_BYTE = frozenset(f"ISO 2022 IR {number}" for number in (87, 159, 149, 58))

# What else devices write, in capitals and without spaces, hyphens and underscores. A part of ISO 8859 goes by the
# number of its registration in DICOM.
_PARTS_OF_8859 = {1: 100, 2: 101, 3: 109, 4: 110, 5: 144, 6: 127, 7: 126, 8: 138, 9: 148, 11: 166, 15: 203}
_OTHER_NAMES = (
    dict.fromkeys(("UTF8", "UNICODE", "UNICODEUTF8", "UNICODE11UTF8", "ISO10646", "ISO10646UTF8"), "ISO_IR 192")
    | dict.fromkeys(("ASCII", "USASCII", "ISO646", "ISO646US", "ISOIR6", "DEFAULT", "NONE"), "")
    | dict.fromkeys(("LATIN1", "ISOLATIN1", "L1"), "ISO_IR 100")
    | dict.fromkeys(("GB2312", "EUCCN", "CP936", "WINDOWS936"), "GBK")
    | {"GBK": "GBK", "GB18030": "GB18030", "GB180302000": "GB18030", "GB180302005": "GB18030"}
    | {f"ISO8859{part}": f"ISO_IR {number}" for part, number in _PARTS_OF_8859.items()}
)
_REGISTERED = re.compile(r"(?:ISO)?[ _-]*(2022)?[ _-]*IR[ _-]*0*(\d{1,3})")
_DATE = re.compile(r"(\d{4})([.\-/: ]?)(\d{2})\2(\d{2})(?:[T ]?\d{2}(?::?\d{2}){1,2}(?:\.\d{1,6})?)?", re.ASCII)
_TIME = re.compile(r"(\d{2})(?:(:?)(\d{2})(?:\2(\d{2})(?:[.,](\d{1,6})\d*)?)?)?", re.ASCII)


class CharacterSet:
    """Decodes the text of one data set, and names the character set for a data set with the same text.

    Parameters
    ----------
    specific_character_set : bytes
        The encoded value of (0008,0005), empty where there is none.
    """

    def __init__(self, specific_character_set: bytes) -> None:
        self._terms = _defined_terms(specific_character_set)

    def decode(self, raw: bytes, person_name: bool = False) -> str:
        """Decode a value; where the declared character set does not fit, as UTF-8, and failing that as Latin-1."""
        text = None if self._terms is None else _strictly(raw, self._terms, person_name)
        if text is not None:
            return text
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")

    def specific_character_set(self, texts: Sequence[str], names: Sequence[str]) -> list[str]:
        """Name the character set for a data set with these texts and person names; empty for the default repertoire.

        The source's own where it is valid, known to most readers, and holds every value, otherwise UTF-8.
        """
        if self._terms is not None and not set(self._terms) & _RARELY_KNOWN:
            terms = self._terms
            if all(_fits(text, False, terms) for text in texts) and all(_fits(name, True, terms) for name in names):
                return list(terms)
        return [] if all(text.isascii() for text in (*texts, *names)) else list(UTF_8)


def _defined_terms(raw: bytes) -> tuple[str, ...] | None:
    """Read Specific Character Set; None where it is not one that the standard knows."""
    values = [value.strip() for value in raw.decode("latin-1").strip("\0 ").upper().split("\\")]
    terms = tuple(_corrected(value) for value in values)
    if len(terms) == 1:
        (term,) = terms
        if term in ("", "ISO_IR 6", "ISO 2022 IR 6"):
            return ()
        # A set of several bytes a character never stands alone: ASCII is the first value, which is empty then.
        return ("", term) if term in _MULTI_BYTE else terms if term in ALONE | EXTENDED else None
    if len(set(terms)) == 1 or "ISO_IR 192" in terms:
        # UTF-8 has no code extensions; a term that is repeated is one.
        return _defined_terms(b"ISO_IR 192" if "ISO_IR 192" in terms else terms[0].encode("latin-1"))
    extensions = tuple(term.replace("ISO_IR ", "ISO 2022 IR ") for term in terms)
    return extensions if set(extensions if extensions[0] else extensions[1:]) <= EXTENDED else None


def _corrected(term: str) -> str:
    """Mend the usual misspellings, such as ISO-IR 100, ISO_IR_100, ISO8859-1 or UTF-8."""
    match = _REGISTERED.fullmatch(term)
    if match is None:
        return _OTHER_NAMES.get(re.sub(r"[ _-]+", "", term), term)
    extended = match[1] or f"ISO 2022 IR {match[2]}" in _MULTI_BYTE
    return f"ISO 2022 IR {match[2]}" if extended else f"ISO_IR {match[2]}"


def _strictly(raw: bytes, terms: tuple[str, ...], person_name: bool) -> str | None:
    if not terms:
        return raw.decode("ascii") if raw.isascii() and b"\x1b" not in raw else None
    try:
        with warnings.catch_warnings():
            # pydicom warns and replaces what it cannot decode; here that means: not this character set.
            warnings.simplefilter("error")
            delimiters = PN_DELIMS if person_name else TEXT_VR_DELIMS
            text = str(decode_bytes(raw, _encodings(terms), delimiters)).replace(_TO_GB_2312, "")
            return None if "\x1b" in text else text
    except (UnicodeError, LookupError, ValueError, UserWarning):
        return None


def _encodings(terms: tuple[str, ...]) -> list[str]:
    # pydicom does not know Latin-9, which came into the standard late
    known = convert_encodings([_LATIN_1 if term in _LATIN_9 else term for term in terms])
    return ["iso8859_15" if term in _LATIN_9 else encoding for term, encoding in zip(terms, known, strict=True)]


def _fits(text: str, person_name: bool, terms: tuple[str, ...]) -> bool:
    """Say whether a text comes back unchanged after it was encoded in a character set."""
    if text.isascii():
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            encodings = _encodings(terms)
            encoded = PersonName(text).encode(encodings) if person_name else encode_string(text, encodings)
            return _strictly(bytes(encoded), terms, person_name) == text
    except (UnicodeError, LookupError, ValueError, UserWarning):
        return False


def date(text: str) -> str:
    """Return a DA value (PS3.5 6.2), empty where the text is no date of the calendar.

    Year, month and day with separators (ACR-NEMA wrote 2026.11.22), and a time behind them, are translated.
    """
    match = _DATE.fullmatch(text.strip(" \0"))
    if match is None:
        return ""
    digits = match[1] + match[3] + match[4]
    try:
        return datetime.strptime(digits, "%Y%m%d").strftime("%Y%m%d")  # noqa: DTZ007 - a DICOM date has no zone
    except ValueError:
        return ""


def time(text: str) -> str:
    """Return a TM value, empty where the text is no time of day; the notation of ACR-NEMA, 12:34:56, is translated."""
    match = _TIME.fullmatch(text.strip(" \0"))
    if match is None or int(match[1]) > 23 or int(match[3] or 0) > 59 or int(match[4] or 0) > 59:
        return ""
    fraction = f".{match[5]}" if match[5] else ""
    return f"{match[1]}{match[3] or ''}{match[4] or ''}{fraction}"
