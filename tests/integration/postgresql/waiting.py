"""Waiting until others wait: so that a test may let them go on at the same moment."""

import time

from sqlalchemy import text

PATIENCE_SECONDS = 60.0


def until_so_many_wait(database, number=1):
    """Return once so many transactions wait for a lock."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with database.read() as session:
            if session.scalar(text("SELECT COUNT(*) FROM pg_locks WHERE NOT granted")) >= number:
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits for a lock")
