"""Fixtures for all tests, and the rule that no test leaves a process behind."""

from __future__ import annotations

import logging
import signal
import warnings

import pytest
import structlog

from tests import processes


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


@pytest.fixture(autouse=True)
def logging_as_before():
    """Give each test the logging that the process began with; commands and listeners set it for the whole process."""
    root = logging.getLogger()
    handlers, level, words = list(root.handlers), root.level, warnings.formatwarning
    before = {logger: _state(logger) for logger in _loggers()}
    structlog.reset_defaults()
    yield
    root.handlers[:], warnings.formatwarning = handlers, words
    root.setLevel(level)
    for logger in _loggers():
        state = before.get(logger, (logging.NOTSET, True, False, []))
        if _state(logger) != state:
            logger.setLevel(state[0])
            logger.propagate, logger.disabled, logger.handlers[:] = state[1:]
    logging.captureWarnings(False)
    structlog.reset_defaults()


def _loggers():
    return [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]


def _state(logger):
    return logger.level, logger.propagate, logger.disabled, list(logger.handlers)
