"""Text of a source header, decoded and made valid (PS3.5 6.1 and 6.2, PS3.3 C.12.1.1.2)."""

from __future__ import annotations

import re
import unicodedata
import warnings
from datetime import datetime
from typing import TYPE_CHECKING

from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS, PersonName

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UTF_8 = ("ISO_IR 192",)
ALONE = frozenset(f"ISO_IR {number}" for number in (100, 101, 109, 110, 144, 127, 126, 138, 148, 203, 13, 166, 192)) | {
    "GB18030",
    "GBK",
}
"""Defined Terms for a character set without code extensions (PS3.3 Tables C.12-2 and C.12-5)."""
EXTENDED = frozenset(
    f"ISO 2022 IR {number}"
    for number in (6, 100, 101, 109, 110, 144, 127, 126, 138, 148, 203, 13, 166, 87, 159, 149, 58)
)
"""Defined Terms for character sets with code extensions (PS3.3 Tables C.12-3 and C.12-4)."""
MAXIMUM_LENGTH = {"SH": 16, "LO": 64, "CS": 16, "LT": 10240}
TEXT_CONTROLS = "\r\n\t\f"


class SourceText:
    """Decodes the text of one data set and knows whether its character set can be kept.

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
        if text is None:
            self._terms = None
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                text = raw.decode("latin-1")
        return text

    def specific_character_set(self, texts: Sequence[str], names: Sequence[str]) -> list[str]:
        """Name the character set for a data set with these texts and person names; empty for the default repertoire.

        The source's own where it is valid and holds every value, otherwise UTF-8.
        """
        if self._terms is not None:
            terms = self._terms
            if all(_fits(text, False, terms) for text in texts) and all(_fits(name, True, terms) for name in names):
                return list(terms)
        return [] if all(text.isascii() for text in (*texts, *names)) else list(UTF_8)


def _defined_terms(raw: bytes) -> tuple[str, ...] | None:
    """Read Specific Character Set; None where it is not one that the standard knows."""
    values = [value.strip() for value in raw.decode("latin-1").strip("\0 ").upper().split("\\")]
    if values == [""]:
        return ()
    terms = tuple(_corrected(value) for value in values)
    if len(terms) == 1:
        return () if terms in ((("ISO_IR 6"),), ("ISO 2022 IR 6",)) else terms if terms[0] in ALONE | EXTENDED else None
    extensions = terms if terms[0] else terms[1:]
    return terms if set(extensions) <= EXTENDED else None


def _corrected(term: str) -> str:
    """Mend the usual misspellings, such as ISO-IR 100, ISO_IR_100 or UTF-8."""
    if term in ("UTF-8", "UTF8", "UTF_8"):
        return "ISO_IR 192"
    match = re.fullmatch(r"ISO[ _-]?(2022)?[ _-]?IR[ _-]?(\d+)", term)
    if match is None:
        return term
    return f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}"


def _strictly(raw: bytes, terms: tuple[str, ...], person_name: bool) -> str | None:
    if not terms:
        return raw.decode("ascii") if raw.isascii() and b"\x1b" not in raw else None
    try:
        with warnings.catch_warnings():
            # pydicom warns and replaces what it cannot decode; here that means: not this character set.
            warnings.simplefilter("error")
            delimiters = PN_DELIMS if person_name else TEXT_VR_DELIMS
            return str(decode_bytes(raw, convert_encodings(list(terms)), delimiters))
    except (UnicodeError, LookupError, ValueError, UserWarning):
        return None


def _fits(text: str, person_name: bool, terms: tuple[str, ...]) -> bool:
    """Say whether a text comes back unchanged after it was encoded in a character set."""
    if text.isascii():
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            encodings = convert_encodings(list(terms))
            encoded = PersonName(text).encode(encodings) if person_name else encode_string(text, encodings)
            return _strictly(bytes(encoded), terms, person_name) == text
    except (UnicodeError, LookupError, ValueError, UserWarning):
        return False


def plain(text: str) -> str:
    """Reduce our own words to printable ASCII, which every character set can carry.

    Without backslash and tilde, which ISO_IR 13 reads differently.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    kept = "".join(character if character.isprintable() else " " for character in ascii_text)
    return " ".join(kept.replace("\\", "/").replace("~", "-").split())


def long_string(text: str) -> str:
    """Reduce our own words to a value of LO."""
    return plain(text)[: MAXIMUM_LENGTH["LO"]].rstrip()


def clean_text(text: str, vr: str) -> str:
    """Take out what SH, LO or LT may not hold: control characters, and the value delimiter where there is one value."""
    allowed = TEXT_CONTROLS if vr == "LT" else ""
    if vr != "LT":
        text = text.replace("\\", " ")
    kept = "".join(c for c in text if c in allowed or unicodedata.category(c) != "Cc")
    return kept.strip() if vr != "LT" else kept.rstrip()


def identifier(text: str, vr: str) -> str:
    """Keep an identifier as it is, or not at all: a shortened one may be somebody else's."""
    clean = clean_text(text, vr)
    return clean if clean == text.strip(" \0") and len(clean) <= MAXIMUM_LENGTH[vr] else ""


def description(text: str, vr: str) -> str:
    """Keep as much of a description as its VR may hold."""
    return clean_text(text, vr)[: MAXIMUM_LENGTH[vr]].rstrip()


def person_name(text: str) -> str:
    """Keep up to three component groups of up to five components and 64 characters each (PS3.5 6.2.1)."""
    groups = [clean_text(group, "LO").split("^") for group in text.split("=")[:3]]
    shortened = ["^".join(part.strip() for part in group[:5])[:64].rstrip("^ ") for group in groups]
    return "=".join(shortened).rstrip("=")


def date(text: str) -> str:
    """Keep a DA value; the notation of ACR-NEMA, 2026.11.22, is translated (PS3.5 6.2 Note)."""
    digits = re.sub(r"^(\d{4})[.\-/](\d{2})[.\-/](\d{2})$", r"\1\2\3", text.strip(" \0"))
    try:
        return datetime.strptime(digits, "%Y%m%d").strftime("%Y%m%d") if re.fullmatch(r"\d{8}", digits) else ""  # noqa: DTZ007 - a DICOM date has no zone
    except ValueError:
        return ""


def time(text: str) -> str:
    """Keep a TM value; the notation of ACR-NEMA, 12:34:56, is translated."""
    digits = re.sub(r"^(\d{2}):(\d{2}):(\d{2})", r"\1\2\3", text.strip(" \0"))
    return digits if re.fullmatch(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", digits) else ""


def code_string(text: str, allowed: Iterable[str] | None = None) -> str:
    """Keep a CS value, in capitals; with `allowed`, only one of those."""
    value = text.strip(" \0").upper()
    if allowed is not None:
        return value if value in allowed else ""
    return value if re.fullmatch(r"[A-Z0-9 _]{1,16}", value) else ""


def number(text: str) -> str:
    """Keep a DS value that is a positive finite number."""
    value = text.strip(" \0")
    return value if len(value) <= 16 and re.fullmatch(r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value) else ""
