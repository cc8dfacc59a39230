"""A sign of life on this machine's disk: a role touches a file, and a container's health check looks at its age.

Neither the database nor the broker has a part in it: when they are away, killing the roles too would help nobody.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0


def liveness_path(run_folder: Path, role: str) -> Path:
    """Return the file of a role; containers may share a home, so it names the machine too."""
    return run_folder / f"{role}-{socket.gethostname()}.alive"


def beat(path: Path) -> None:
    """Touch the file; a disk that refuses is told by the health check alone."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch()


def age_seconds(path: Path) -> float | None:
    """Return how long ago the role gave its last sign of life, or None where it never did."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None


class LivenessFile:
    """Touches the file as long as this process lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and leave no sign of life behind."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopped.is_set():
            beat(self._path)
            self._stopped.wait(BEAT_SECONDS)
