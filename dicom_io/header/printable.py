"""What of a text from outside may stand in a table, on a line, in a file of ours."""

from __future__ import annotations

import unicodedata

# Categories of Unicode: control, format, surrogate, line separator, paragraph separator
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """Return text with a space for each character that has no place in a table, a line or a file of ours.

    Control characters of C0 and C1, those that are drawn as nothing or turn the order of what follows (zero width,
    bidirectional), line and paragraph separators, and lone surrogates.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if unicodedata.category(each) in _UNPRINTABLE else each for each in text)
