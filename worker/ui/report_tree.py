"""A structured report's content tree as nested lists, every word of it escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

INDENT = 2
"""Columns that a child stands to the right of its parent (`dicom_io.report_outline`)."""


def as_lists(lines: Sequence[str]) -> str:
    """Return HTML for the lines of an outline; names stand out, values follow."""
    parts, depth = [], -1
    for line in lines:
        words = line.lstrip(" ")
        at = min((len(line) - len(words)) // INDENT, depth + 1)
        parts.append("<ul><li>" if at > depth else "</li></ul>" * (depth - at) + "</li><li>")
        name, colon, value = words.partition(": ")
        parts.append(f"<strong>{html.escape(name)}</strong>" + (f": {html.escape(value)}" if colon else ""))
        depth = at
    return "".join(parts) + "</li></ul>" * (depth + 1)
