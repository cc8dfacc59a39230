"""Text of a source header made valid for a report (PS3.5 6.2)."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAXIMUM_LENGTH = {"SH": 16, "LO": 64, "CS": 16, "LT": 10240}
TEXT_CONTROLS = "\r\n\t\f"


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
