"""Logs: JSON in services, colours for people, and never a patient.

Everything goes one way, through one handler of the root logger: ours (structlog), Celery's and Alembic's, pynetdicom's
and Python's own warnings. On that way

- fields that name a patient are dropped, whatever they hold, and values that are no plain data (a data set, a header,
  an array) are replaced by the name of their type;
- libraries that read DICOM or run SQL quote what they complain about: of their messages, and of their exceptions,
  only the place and the type pass;
- the message of an exception passes where it is one of ours, which are written to be shown, or the system's.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

# Compared in lower case without underscores, so that patient_id, PatientID and patientId are one. Anything that
# begins with "patient" is dropped too.
PATIENT_KEYS = frozenset(
    {
        "accession",
        "accessionnumber",
        "birthdate",
        "dataset",
        "ds",
        "header",
        "identifiers",
        "issuerofpatientid",
        "institutionname",
        "mrn",
        "otherpatientids",
        "otherpatientnames",
        "pixelarray",
        "pixeldata",
        "pixels",
        "referringphysicianname",
        "requestingphysician",
        "studydate",
        "studydescription",
    }
)
QUOTING_LIBRARIES = ("alembic", "highdicom", "pg8000", "pydicom", "pynetdicom", "sqlalchemy", "sqlite3")
"""Loggers whose messages may hold values of data sets or rows."""
OUR_PACKAGES = ("dicom_io", "models", "worker")
SYSTEM_ERRORS = (OSError, MemoryError, ImportError, NameError, AttributeError, NotImplementedError, RecursionError)
"""Exceptions whose messages speak of the machine and the code, not of what was read."""
PLAIN = (str, int, float, bool, type(None))
_HANDLER = "bonewatch"

Event = MutableMapping[str, Any]


def configure_logs(log_format: str = "auto", level: str = "INFO") -> None:
    """Set up the logging of this process; called once at its start, a second call replaces the first.

    Parameters
    ----------
    log_format : str
        "json" (one object a line, on stdout), "console" (for people, on stderr), or "auto": console on a terminal.
    level : str
        DEBUG, INFO, WARNING or ERROR; CRITICAL for a command that answers in its own words.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if console else _json()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, withhold_quotations],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            describe_exception,
            drop_patient_data,
            renderer,
        ],
        # The formatter of the standard library would append the traceback, values and all.
        keep_exc_info=False,
        keep_stack_info=False,
    )
    _install(formatter, sys.stderr if console else sys.stdout, level)


def _json() -> structlog.processors.JSONRenderer:
    return structlog.processors.JSONRenderer(default=lambda value: f"<{type(value).__name__}>", ensure_ascii=False)


def _install(formatter: logging.Formatter, stream: TextIO, level: str) -> None:
    handler = logging.StreamHandler(stream)
    handler.set_name(_HANDLER)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in [each for each in root.handlers if each.get_name() == _HANDLER]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in ("kombu", "amqp", "redis", "sqlalchemy", "pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # Below a warning Celery writes the arguments of every task and of every configuration value.
    logging.getLogger("celery").setLevel(max(logging.INFO, logging.getLevelName(level)))
    logging.captureWarnings(True)
    warnings.formatwarning = _warning_words


def _warning_words(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"{category.__name__} at {Path(filename).parent.name}/{Path(filename).name}:{lineno}"


def withhold_quotations(_: Any, __: str, event: Event) -> Event:
    """Replace what a library says of data by where it says it; its text may hold what it was reading.

    That is everything from a quoting library, and from any other what it says of an exception: Celery, for one, puts
    the exception's words into its own.
    """
    record: logging.LogRecord = event["_record"]
    quoting = record.name.split(".")[0] in QUOTING_LIBRARIES and not record.name.startswith("alembic.runtime")
    of_exception = record.exc_info or (record.name == "celery.app.trace" and record.levelno >= logging.WARNING)
    if quoting or of_exception:
        event["event"] = "library_error" if of_exception else "library_complaint"
        event["library"] = record.name
        event["place"] = f"{record.module}:{record.lineno}"
    return event


def drop_patient_data(_: Any, __: str, event: Event) -> Event:
    """Drop every field that names a patient or holds a data set, and say which were dropped."""
    dropped = sorted(key for key in event if _is_patient_key(key))
    for key in dropped:
        del event[key]
    for key, value in event.items():
        event[key] = _plain(value)
    if dropped:
        event["dropped"] = dropped
    return event


def _is_patient_key(key: str) -> bool:
    word = key.lower().replace("_", "").replace("-", "")
    return word in PATIENT_KEYS or word.startswith("patient")


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path | datetime):
        return str(value)
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items() if not _is_patient_key(str(key))}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return f"<{type(value).__name__}>"


def describe_exception(_: Any, __: str, event: Event) -> Event:
    """Turn an exception into its types, where it went through, and messages that are fit to be shown."""
    error = event.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    elif error is True:
        error = sys.exc_info()[1]
    if not isinstance(error, BaseException):
        return event
    chain: list[str] = []
    places: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        chain.append(_exception_words(error))
        places = places or [
            f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    event["exception"] = " <- ".join(chain)
    event["traceback"] = places
    return event


def _exception_words(error: BaseException) -> str:
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    if kind.__module__.split(".")[0] in OUR_PACKAGES or isinstance(error, SYSTEM_ERRORS) or _from_torch(error):
        return f"{name}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no words'}"
    return f"{name} (its message is withheld: it may quote what was read)"


def _from_torch(error: BaseException) -> bool:
    # "out of memory" is a plain RuntimeError, and an array has no name to give away.
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "/torch" in frames[-1].filename
