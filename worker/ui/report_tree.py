"""A structured report's content tree as nested lists, every word of it escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

INDENT = 2
"""Columns that a child stands to the right of its parent (`dicom_io.report_outline`)."""
FOLDED = 2
"""From this depth on, what has children is folded until somebody opens it: a group of measurements has 15 lines."""


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
        name, colon, value = lines[start][1].partition(": ")
        words = f"<strong>{html.escape(name)}</strong>" + (f": {html.escape(value)}" if colon else "")
        children = _items(lines[start + 1 : end], depth + 1)
        if children and depth >= FOLDED:
            words, children = "", f"<details><summary>{words}</summary>{children}</details>"
        parts.append(f"<li>{words}{children}</li>")
    return f"<ul>{''.join(parts)}</ul>"
