"""Fixtures for all tests, and the rule that no test leaves a process behind."""

from __future__ import annotations

import pytest

from tests import processes


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
