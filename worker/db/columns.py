"""Text and numbers from outside, made to fit their columns: the one place where that happens.

A header may hold anything: NUL and lone surrogates, which PostgreSQL refuses, a Patient ID of 65,000 characters, a
number of frames beyond 32 bits. None of it may keep an instance out of the database.
"""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import BigInteger, Integer, String

from dicom_io.header.printable import printable
from worker.db.tables import Base

MARK_LENGTH = 17
LARGEST_INTEGER = 2**31 - 1
LARGEST_BIG_INTEGER = 2**63 - 1


def truncated_to_columns(table: type[Base], **values: Any) -> dict[str, Any]:
    """Return the values as the columns of this table take them; what fits is left as it is.

    - Control characters, those that turn the order of a line or are drawn as nothing, line separators and lone
      surrogates become spaces.
    - Text beyond the column's length is cut. Where there is room for it, the cut is marked with ``~`` and 16
      hexadecimal digits of the whole text's SHA-256: two over-long Patient IDs must not become one.
    - Numbers beyond the column's range become its largest or smallest.
    """
    columns = table.__table__.c
    return {name: _fit(columns[name].type, value) for name, value in values.items()}


def _fit(kind: object, value: Any) -> Any:
    if isinstance(value, str) and isinstance(kind, String):
        return _fit_text(value, kind.length)
    if isinstance(value, int) and not isinstance(value, bool) and isinstance(kind, Integer):
        largest = LARGEST_BIG_INTEGER if isinstance(kind, BigInteger) else LARGEST_INTEGER
        return max(-largest, min(value, largest))
    return value


def _fit_text(text: str, length: int | None) -> str:
    clean = printable(text)
    if length is None or len(clean) <= length:
        return clean
    if length <= 2 * MARK_LENGTH:
        return clean[:length]
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[: MARK_LENGTH - 1]
    return f"{clean[: length - MARK_LENGTH]}~{digest}"
