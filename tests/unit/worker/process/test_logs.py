"""What reaches the log, and what must never."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings

import numpy as np
import pytest
import structlog

from dicom_io.errors import PixelError
from tests.builders import build_radiograph
from tests.databases import header
from worker.process.logs import configure_logs


@pytest.fixture
def lines(monkeypatch):
    """Log as JSON and return a function that reads what was logged."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    configure_logs("json")
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_level_logger_and_time(lines):
    structlog.get_logger("worker.x").info("analysed", job_id=7, outcome="absent")
    (line,) = lines()
    assert (line["event"], line["job_id"], line["outcome"]) == ("analysed", 7, "absent")
    assert (line["level"], line["logger"]) == ("info", "worker.x")
    assert line["timestamp"].endswith("Z")


def test_what_is_bound_to_a_task_stands_in_its_lines_and_in_those_of_libraries(lines):
    with structlog.contextvars.bound_contextvars(job_id=7):
        structlog.get_logger().info("begun")
        logging.getLogger("celery.worker").warning("late")
    logging.getLogger("celery.worker").warning("later")
    assert [line.get("job_id") for line in lines()] == [7, 7, None]


@pytest.mark.parametrize(
    "key",
    ["patient_id", "PatientID", "PatientName", "patient_birth_date", "accession_number", "AccessionNumber", "mrn"],
)
def test_a_field_that_names_a_patient_is_dropped_and_its_absence_shown(lines, key):
    structlog.get_logger().warning("oops", **{key: "DOE^JANE", "job_id": 7})
    (line,) = lines()
    assert "DOE" not in json.dumps(line)
    assert (line["dropped"], line["job_id"]) == ([key], 7)


def test_fields_inside_of_fields_are_dropped_too(lines):
    structlog.get_logger().info("x", detail={"patient_id": "DOE^JANE", "frames": 2})
    assert lines()[0]["detail"] == {"frames": 2}


def test_a_data_set_a_header_and_an_array_become_the_name_of_their_type(lines):
    structlog.get_logger().info("x", one=build_radiograph(), two=header(), three=[np.zeros(3)])
    (line,) = lines()
    assert (line["one"], line["two"], line["three"]) == ("<Dataset>", "<InstanceHeader>", ["<ndarray>"])


@pytest.mark.parametrize("library", ["pydicom", "sqlalchemy.engine", "pg8000", "highdicom.sr"])
def test_a_library_that_quotes_is_named_without_its_words(lines, library):
    logging.getLogger(library).warning("Invalid value: %s", "DOE^JANE")
    (line,) = lines()
    assert (line["event"], line["library"]) == ("library_complaint", library)
    assert line["place"].startswith("test_logs:")
    assert "DOE" not in json.dumps(line)


def test_statements_of_sql_are_not_logged_at_any_level(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    configure_logs("json", "DEBUG")
    logging.getLogger("sqlalchemy.engine.Engine").info("SELECT 'DOE^JANE'")
    logging.getLogger("pynetdicom.assoc").debug("(0010,0010) PN [DOE^JANE]")
    assert stream.getvalue() == ""


def test_migrations_and_celery_are_heard(lines):
    logging.getLogger("alembic.runtime.migration").info("Running upgrade 0001 -> %s", "0002")
    logging.getLogger("celery.worker").warning("consumer: Connection lost")
    assert [line["event"] for line in lines()] == ["Running upgrade 0001 -> 0002", "consumer: Connection lost"]


def test_a_warning_says_where_it_arose_and_quotes_nothing(lines):
    # The test suite turns warnings into errors; here they are let through as in a service.
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("Invalid value for VR UI: 'DOE^JANE'", stacklevel=1)
    (line,) = lines()
    assert line["event"].startswith("UserWarning at process/test_logs.py:")
    assert "DOE" not in json.dumps(line)


def logged(error):
    try:
        raise error
    except type(error):
        structlog.get_logger().exception("job_failed", job_id=7)


def test_an_error_of_ours_is_shown_with_its_words_and_its_way(lines):
    logged(PixelError("JPEG 2000 cannot be decoded"))
    (line,) = lines()
    assert line["exception"] == "dicom_io.errors.PixelError: JPEG 2000 cannot be decoded"
    assert line["traceback"][-1].endswith("logged")
    assert "exc_info" not in line


def test_an_error_of_the_system_is_shown_without_its_file(lines):
    logged(OSError(28, "No space left on device", "/store/DOE^JANE.dcm"))
    assert lines()[0]["exception"] == "OSError: No space left on device"


@pytest.mark.parametrize("error", [ValueError("invalid literal: 'DOE^JANE'"), KeyError("DOE^JANE")])
def test_what_another_error_quotes_is_withheld_along_its_whole_chain(lines, error):
    try:
        try:
            raise error
        except (ValueError, KeyError) as cause:
            raise PixelError("cannot be decoded") from cause
    except PixelError:
        structlog.get_logger().exception("job_failed")
    (line,) = lines()
    assert line["exception"].startswith("dicom_io.errors.PixelError: cannot be decoded <- ")
    assert "DOE" not in json.dumps(line)


def test_what_celery_says_of_an_exception_is_withheld_too(lines):
    words = "Task bonewatch.analyze raised unexpected: ValueError('DOE^JANE')"
    try:
        int("DOE^JANE")
    except ValueError:
        logging.getLogger("celery.app.trace").exception(words)
    logging.getLogger("celery.app.trace").error(words)
    first, second = lines()
    assert (first["event"], second["event"], first["library"]) == ("library_error", "library_error", "celery.app.trace")
    assert first["exception"].startswith("ValueError (its message is withheld")
    assert "DOE" not in json.dumps([first, second])


def test_people_get_lines_on_stderr_and_nothing_on_stdout(capsys):
    configure_logs("console")
    structlog.get_logger().info("listener_started", port=11112, patient_id="DOE^JANE")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "listener_started" in printed.err
    assert "DOE" not in printed.err


def test_below_the_level_nothing_is_logged_and_a_second_set_up_replaces_the_first(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    configure_logs("json", "INFO")
    configure_logs("json", "WARNING")
    structlog.get_logger("worker.y").info("quiet")
    structlog.get_logger("worker.y").warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]
