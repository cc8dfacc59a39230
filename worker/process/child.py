"""One child process of `bonewatch up`: started under a subreaper, its output kept, its end put into words."""

from __future__ import annotations

import logging
import logging.handlers
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from worker.process import subreaper
from worker.process.readiness import VARIABLE, ReadinessSocket

FIRST_BACK_OFF_SECONDS = 1.0
LOG_BYTES = 10_000_000
LOG_FILES = 3
SUBREAPER = (sys.executable, "-I", "-S", subreaper.__file__)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run and how.

    `announces` says that the child tells when it is ready (see `worker/process/readiness.py`); one that does not is
    ready once it runs. Children with `stops_last` outlive the others, which need them to finish their work.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    announces: bool = True
    ready_seconds: float = 60.0
    stop_seconds: float = 20.0
    stops_last: bool = False


class Child:
    """One child now: its process, its output, and when it may be started again."""

    def __init__(self, spec: ChildSpec, log_folder: Path, echo: Callable[[str, str], None] | None) -> None:
        self.spec = spec
        self.process: subprocess.Popen[str] | None = None
        self.readiness: ReadinessSocket | None = None
        self.lines: deque[str] = deque(maxlen=40)
        self.back_off = FIRST_BACK_OFF_SECONDS
        self.started_at = 0.0
        self.restart_at: float | None = None
        self._echo = echo
        self._lifeline: int | None = None
        self._pump: threading.Thread | None = None
        log_folder.mkdir(parents=True, exist_ok=True)
        self._log = logging.handlers.RotatingFileHandler(
            log_folder / f"{spec.name}.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
        )

    def spawn(self, lock_descriptor: int | None) -> None:
        """Start the process under its subreaper."""
        self.close()
        self.readiness = ReadinessSocket() if self.spec.announces else None
        reader, self._lifeline = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*SUBREAPER, str(reader), str(self.spec.stop_seconds), *self.spec.command],
                env=self._environment(),
                pass_fds=(reader,) if lock_descriptor is None else (reader, lock_descriptor),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # the terminal's Ctrl-C is for us alone; we stop them in order
            )
        finally:
            os.close(reader)
        self.started_at = time.monotonic()
        self.restart_at = None
        self._pump = threading.Thread(target=self._copy_output, args=(self.process.stdout,), daemon=True)
        self._pump.start()

    def _environment(self) -> dict[str, str]:
        # Unbuffered, so that the last words of a child that is killed are not lost.
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.spec.environment}
        environment.pop(VARIABLE, None)
        if self.readiness is not None:
            environment[VARIABLE] = self.readiness.address
        return environment

    def _copy_output(self, output: IO[str]) -> None:
        for line in output:
            text = line.rstrip("\n")
            self.lines.append(text)
            self._log.emit(logging.LogRecord(self.spec.name, logging.INFO, "", 0, text, None, None))
            if self._echo is not None:
                self._echo(self.spec.name, text)
        output.close()

    def is_running(self) -> bool:
        """Say whether the process (its subreaper) lives."""
        return self.process is not None and self.process.poll() is None

    def is_ready(self) -> bool:
        """Say whether the child can do its work."""
        return self.is_running() and (self.readiness is None or self.readiness.heard())

    def ending(self) -> str:
        """Say in words how the process ended."""
        status = self.process.returncode if self.process is not None else None
        if status is None:
            return "was never started"
        number = -status if status < 0 else status - 128 if status > 128 else 0
        name = signal.Signals(number).name if number in set(signal.Signals) else ""
        return f"was ended by {name}" if name else f"ended with status {status}"

    def last_lines(self) -> tuple[str, ...]:
        """Return what the process printed last; complete once it has ended."""
        if self._pump is not None:
            self._pump.join(timeout=1.0)
        return tuple(self.lines)

    def signal(self, number: int) -> None:
        """Send a signal to the subreaper, which passes on what it means."""
        if self.process is not None and self.is_running():
            self.process.send_signal(number)

    def close(self) -> None:
        """Let go of pipe, socket and output; with the pipe the subreaper loses its owner."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if self.readiness is not None:
            self.readiness.close()
            self.readiness = None
        if self._pump is not None:
            self._pump.join(timeout=1.0)
            self._pump = None

    def close_log(self) -> None:
        """Close the log file."""
        self._log.close()
