"""How a check of `bonewatch doctor` went."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How a check went."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it went, what was found, and what to do about it."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""
