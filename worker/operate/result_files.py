"""Rows as CSV, JSON and Parquet, one by one: however many there are, the memory stays that of one page.

A file that is asked for appears whole or not at all: it is written beside its name and renamed.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar, get_type_hints

from worker.errors import ExportRefused
from worker.operate.model_changes import ChangeRow
from worker.operate.results import ResultRow, plain_type

if TYPE_CHECKING:
    import pyarrow as pa

Row = TypeVar("Row", ResultRow, ChangeRow)
ROWS_A_GROUP = 10_000
"""Rows of a Parquet row group: what is in memory at once, and what a reader skips at once."""


def write_csv(kind: type[Row], rows: Iterable[Row], stream: IO[str]) -> int:
    """Write a header and a line a row; return how many rows. Formulas of a spreadsheet get an apostrophe."""
    writer = csv.writer(stream)
    writer.writerow(field.name for field in dataclasses.fields(kind))
    count = 0
    for row in rows:
        writer.writerow(_csv_cell(value) for value in dataclasses.astuple(row))
        count += 1
    return count


def write_json(_kind: type[Row], rows: Iterable[Row], stream: IO[str]) -> int:
    """Write a list with an object a row, each on a line of its own; moments in ISO 8601. Return how many rows."""
    count = 0
    stream.write("[")
    for count, row in enumerate(rows, start=1):
        stream.write("\n" if count == 1 else ",\n")
        stream.write(json.dumps(dataclasses.asdict(row), ensure_ascii=False, default=datetime.isoformat))
    stream.write("\n]\n" if count else "]\n")
    return count


def write_parquet(kind: type[Row], rows: Iterable[Row], path: Path) -> int:
    """Write a Parquet file, moments in UTC, a row group every `ROWS_A_GROUP` rows; return how many rows.

    Raises
    ------
    worker.errors.ExportRefused
        When the file cannot be written.
    """
    from pyarrow import RecordBatch  # noqa: PLC0415 - slow to import
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415

    schema, count = _schema(kind), 0
    with whole_file(path) as temporary, ParquetWriter(temporary, schema) as writer:
        for group in _batched(rows, ROWS_A_GROUP):
            columns = zip(*(dataclasses.astuple(row) for row in group), strict=True)
            writer.write_batch(RecordBatch.from_pydict(dict(zip(schema.names, columns, strict=True)), schema=schema))
            count += len(group)
    return count


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name beside `path`, readable by its owner only; what was written there takes the name at the end.

    Raises
    ------
    worker.errors.ExportRefused
        When it cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as made:
            temporary = Path(made.name)
    except OSError as error:
        raise ExportRefused(f"{path} cannot be written: {error.strerror}") from error
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise ExportRefused(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _batched(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while group := list(islice(iterator, size)):
        yield group


def _schema(kind: type[Row]) -> pa.Schema:
    import pyarrow as pa  # noqa: PLC0415 - slow to import

    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), datetime: pa.timestamp("us", tz="UTC")}
    hints = get_type_hints(kind)
    fields = dataclasses.fields(kind)
    return pa.schema([pa.field(field.name, types[plain_type(hints[field.name])]) for field in fields])


def _csv_cell(value: object) -> object:
    """Return a value as CSV holds it; text that a spreadsheet would run as a formula gets an apostrophe."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
