"""Fixtures for all tests, and the rule that no test leaves a process behind."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from pathlib import Path

import pytest
import structlog

from tests import processes
from tests.databases import Clock, sqlite_database

TESTS = Path(__file__).parent
LONGEST_FIRST = ("e2e", "integration", "unit")


def pytest_collection_modifyitems(items):
    """Begin with what takes longest."""
    items.sort(key=lambda item: LONGEST_FIRST.index(item.path.relative_to(TESTS).parts[0]))


@pytest.fixture(scope="session", autouse=True)
def no_terminal_has_a_width():
    """Undo what readline does to the environment of the processes that a run is spread over."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard():
    """Undo what a shell does to its background jobs: they, and all that they start, would ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_behind():
    """Fail the run when anything that a test has started, or its children, still lives at the end."""
    processes.adopt_orphans()
    yield
    processes.reap()
    left = processes.left_behind()
    for pid in left:
        processes.kill_tree(pid)
    assert not left, f"the tests have left processes behind: {left}"


@pytest.fixture
def database(tmp_path):
    """Return a database with its tables, and nothing in them."""
    made = sqlite_database(tmp_path)
    yield made
    made.close()


@pytest.fixture
def clock():
    """Return a clock that stands still until it is told."""
    return Clock()


@pytest.fixture(autouse=True)
def logging_as_before():
    """Undo what a test has set in logging; commands and listeners set it for the whole process."""
    root = logging.getLogger()
    handlers, level, words = list(root.handlers), root.level, warnings.formatwarning
    structlog.reset_defaults()
    yield
    root.handlers[:], warnings.formatwarning = handlers, words
    root.setLevel(level)
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and _was_set(logger):
            logger.setLevel(logging.NOTSET)
            logger.propagate, logger.disabled, logger.handlers[:] = True, False, []
    logging.captureWarnings(False)
    structlog.reset_defaults()


def _was_set(logger):
    return logger.level or logger.handlers or logger.disabled or not logger.propagate
