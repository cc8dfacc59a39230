"""A structured report's content tree as nested lists, every word of it escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

INDENT = 2
"""Columns that a child stands to the right of its parent (`dicom_io.report.outline`)."""
FOLDED = 2
"""From this depth on, what has children is folded until somebody opens it: a group of measurements has 15 lines."""
IDENTIFIER, FINDING = "Tracking Identifier", "Finding"
SAID = ("Summary of Analyses", "Probability")
"""What else a group of measurements says of its image or region (`dicom_io.report.content`)."""


def as_lists(lines: Sequence[str]) -> str:
    """Return HTML for the lines of an outline; names stand out, values follow."""
    return _items([((len(line) - len(line.lstrip(" "))) // INDENT, line.strip()) for line in lines], 0)


def _items(lines: Sequence[tuple[int, str]], depth: int) -> str:
    """Return the list of the items at this depth, each with those deeper ones that follow it."""
    if not lines:
        return ""
    starts = [place for place, (at, _) in enumerate(lines) if at <= depth or place == 0]
    parts = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        below = lines[start + 1 : end]
        name, _, value = lines[start][1].partition(": ")
        children = _items(below, depth + 1)
        if children and depth >= FOLDED:
            summary = _words(name, [value, *_telling(below, lines[start][0] + 1)])
            parts.append(f"<li><details><summary>{summary}</summary>{children}</details></li>")
        else:
            parts.append(f"<li>{_words(name, [value])}{children}</li>")
    return f"<ul>{''.join(parts)}</ul>"


def _words(name: str, facts: Sequence[str]) -> str:
    said = html.escape("; ".join(filter(None, facts)))
    return f"<strong>{html.escape(name)}</strong>" + (f": {said}" if said else "")


def _telling(below: Sequence[tuple[int, str]], depth: int) -> list[str]:
    """Return what tells a group from the others of its name: its image, frame or region, the finding, how probable."""
    said = dict(line.partition(": ")[::2] for at, line in below if at == depth)
    # An image without a fracture has the finding "Fracture" too, and says of it "Fracture: Absent" (PS3.16 TID 1501).
    finding = said.get(FINDING, "")
    names = [finding if finding in said else FINDING, *SAID]
    return [said.get(IDENTIFIER, ""), *(f"{name}: {said[name]}" for name in names if name in said)]
