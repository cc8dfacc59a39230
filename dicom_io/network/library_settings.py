"""The switches of pydicom and pynetdicom that exist once per process, and what becomes of their messages."""

from __future__ import annotations

import logging

import structlog
from pydicom import config as pydicom_config
from pynetdicom import _config as pynetdicom_config

log = structlog.get_logger()

_LIBRARIES = ("pydicom", "pynetdicom", "dicomweb_client", "urllib3")


class _WithoutContents(logging.Handler):
    """Passes on that and where a library complained, never its words: they may quote names and identifiers."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the place in the library and the type of the exception, and without an exception for debugging only."""
        exception = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        level = logging.WARNING if exception else logging.DEBUG
        log.log(level, "library_complaint", library=record.name, line=record.lineno, exception=exception)


def configure_libraries() -> None:
    """Set what the listener needs, once per process; calling it again changes nothing.

    - No identifiers and no summaries of messages in pynetdicom's log.
    - Storage of known classes only through the usual negotiation: what an unknown class is, we decide (admission.py).
    - Data sets arrive through our own spool (wire.py), not in files of the system's temporary folder.
    - pydicom does not judge the values that it reads: its warnings quote them, and a hostile one must not stop us.
    """
    pynetdicom_config.LOG_HANDLER_LEVEL = "none"
    pynetdicom_config.LOG_REQUEST_IDENTIFIERS = False
    pynetdicom_config.LOG_RESPONSE_IDENTIFIERS = False
    pynetdicom_config.UNRESTRICTED_STORAGE_SERVICE = False
    pynetdicom_config.STORE_RECV_CHUNKED_DATASET = False
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.setLevel(logging.WARNING)
        library.propagate = False
        if not any(isinstance(each, _WithoutContents) for each in library.handlers):
            library.handlers[:] = [_WithoutContents()]
