"""Unique identifiers: checking those that arrive and deriving those that we give (PS3.5 Section 9, Annex B)."""

from __future__ import annotations

import hashlib
import re

MAXIMUM_UID_LENGTH = 64  # PS3.5 9.1

_COMPONENT = "(?:0|[1-9][0-9]*)"
_VALID = re.compile(rf"{_COMPONENT}(?:\.{_COMPONENT})*", re.ASCII)
_SAFE = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)


def is_valid_uid(text: str) -> bool:
    """Say whether `text` is a UID as the standard wants it.

    Digits and full stops, at most 64 characters, no empty component and none with a leading zero (PS3.5 9.1).
    """
    return len(text) <= MAXIMUM_UID_LENGTH and _VALID.fullmatch(text) is not None


def is_safe_uid(text: str) -> bool:
    """Say whether `text` may name a file or a folder.

    Like `is_valid_uid`, but components may have leading zeros: old devices wrote such UIDs, archives still hold and
    push the images, and they must keep the identity that they have. Nothing but digits and single full stops passes,
    so neither separators nor `..` nor hidden names can come from it.
    """
    return len(text) <= MAXIMUM_UID_LENGTH and _SAFE.fullmatch(text) is not None


def derive_uid(*parts: str) -> str:
    """Return the one UID that belongs to `parts`: the same parts give the same UID, on every machine, for ever.

    The root is 2.25 with a decimal 128 bit integer, as for UUIDs (PS3.5 B.2). The integer is the head of a SHA-256 over
    the parts, each preceded by its length so that ("ab", "c") and ("a", "bc") differ.

    Raises
    ------
    ValueError
        When no part is given.
    """
    if not parts:
        raise ValueError("a UID cannot be derived from nothing")
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return f"2.25.{int.from_bytes(digest.digest()[:16], 'big')}"
