"""Results as files: the same rows in every form, whole or not at all, in bounded memory."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from dataclasses import astuple, fields, replace

import pytest
from pyarrow import parquet

from tests.databases import MORNING
from worker.errors import ExportRefused
from worker.operate import result_files
from worker.operate.result_files import write_csv, write_json, write_parquet
from worker.operate.results import ResultRow

NAMES = [field.name for field in fields(ResultRow)]
ROW = replace(
    ResultRow(**dict.fromkeys(NAMES)),
    study_instance_uid="2.25.1",
    patient_id="=P-1",
    probability=0.5,
    images=2,
    received_at=MORNING,
    study_id=1,
)


def rows(count):
    return (replace(ROW, study_id=number, study_instance_uid=f"2.25.{number}") for number in range(count))


def test_csv_has_every_column_and_no_formula():
    stream = io.StringIO()
    assert write_csv(ResultRow, rows(2), stream) == 2
    first, second = csv.DictReader(io.StringIO(stream.getvalue()))
    assert (list(first), second["study_instance_uid"], first["patient_id"]) == (NAMES, "2.25.1", "'=P-1")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_is_a_list_whatever_its_length(count):
    stream = io.StringIO()
    assert write_json(ResultRow, rows(count), stream) == count
    found = json.loads(stream.getvalue())
    assert [row["study_id"] for row in found] == list(range(count))
    assert all(row["received_at"] == MORNING.isoformat() for row in found)


def test_parquet_comes_back_with_types_in_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(result_files, "ROWS_A_GROUP", 4)
    assert write_parquet(ResultRow, rows(10), tmp_path / "results.parquet") == 10
    file = parquet.ParquetFile(tmp_path / "results.parquet")
    assert (file.metadata.num_row_groups, file.schema_arrow.names) == (3, NAMES)
    back = [ResultRow(**row) for row in file.read().to_pylist()]
    assert [astuple(row) for row in back] == [astuple(row) for row in rows(10)]


def test_no_rows_make_a_parquet_file_with_columns(tmp_path):
    assert write_parquet(ResultRow, rows(0), tmp_path / "none.parquet") == 0
    assert parquet.read_table(tmp_path / "none.parquet").column_names == NAMES


def peak_bytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_many_rows_are_never_in_memory_together(tmp_path, monkeypatch, form):
    monkeypatch.setattr(result_files, "ROWS_A_GROUP", 500)

    def work(count):
        if form == "parquet":
            write_parquet(ResultRow, rows(count), tmp_path / "many.parquet")
            return
        with (tmp_path / "many").open("w") as stream:
            (write_csv if form == "csv" else write_json)(ResultRow, rows(count), stream)

    work(10)
    assert peak_bytes(lambda: work(10_000)) < peak_bytes(lambda: list(rows(10_000))) / 3


def test_a_reader_that_breaks_off_leaves_the_earlier_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "results.parquet"
    path.write_text("earlier")

    def broken():
        yield ROW
        raise RuntimeError("the database is gone")

    with pytest.raises(RuntimeError):
        write_parquet(ResultRow, broken(), path)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("results.parquet", "earlier")]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ExportRefused, match="cannot be written"):
        write_parquet(ResultRow, rows(1), tmp_path / "missing" / "results.parquet")
