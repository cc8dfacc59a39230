"""Outcomes and times as people read them; a sign beside each, so that colour is never all that tells."""

from __future__ import annotations

from datetime import datetime
from typing import Final

NOTICE: Final = "Decision support, never a diagnosis. Every answer needs a radiologist."
OUTCOMES: Final = {
    "present": ("▲", "Possible fracture"),
    "inconclusive": ("◆", "Unclear: look closely"),
    "absent": ("○", "No fracture found"),
    "failed": ("✕", "Could not be analysed"),
    "out_of_scope": ("–", "Not looked at: outside the scope"),
}


def outcome_words(outcome: str | None) -> str:
    """Return the sign and words of an outcome, or that it is still awaited."""
    return " ".join(OUTCOMES.get(outcome or "", ("…", "Waiting")))


def moment(at: datetime | None) -> str:
    """Return a moment in this machine's time."""
    return "-" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | None) -> str:
    """Return a length of time."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def short_model(version: str | None) -> str:
    """Return the date and the digits of a bundle's version `<date>-<name>+<digits>`: enough to tell two apart."""
    if not version:
        return "-"
    name, plus, digits = version.partition("+")
    return f"{name[:10]} +{digits}" if plus else version
