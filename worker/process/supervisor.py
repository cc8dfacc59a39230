"""The child processes of `bonewatch up`: started in order, watched, restarted, and stopped without a trace.

Every child runs under a subreaper (`worker/process/subreaper.py`), which ends it and all that it started when this
process goes, however it goes. What the children print goes to one rotating file each; the last lines are kept to
explain a failure.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.errors import ChildFailed, Interrupted
from worker.process.child import FIRST_BACK_OFF_SECONDS, Child, ChildSpec
from worker.process.home_lock import HomeLock

POLL_SECONDS = 0.05
LONGEST_BACK_OFF_SECONDS = 60.0
HEALTHY_SECONDS = 60.0
"""A child that lived this long starts over with the shortest back-off when it dies."""
SUBREAPER_MARGIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a supervisor works with.

    `say` gets one line for a person whenever something happens to a child; `stop` is set, by a signal handler for
    instance, to end every wait; `echo` gets every line that a child prints, with the child's name; `lock` is held by
    the subreapers too.
    """

    log_folder: Path
    say: Callable[[str], None]
    stop: threading.Event
    lock: HomeLock | None = None
    echo: Callable[[str, str], None] | None = None


class Supervisor:
    """Runs children in order and keeps them running. Use it as a context manager: leaving it stops everything."""

    def __init__(self, specs: Sequence[ChildSpec], surroundings: Surroundings) -> None:
        self._children = [Child(spec, surroundings.log_folder, surroundings.echo) for spec in specs]
        self._say = surroundings.say
        self._stop = surroundings.stop
        self._lock = surroundings.lock

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Start the children one after the other, each once the one before is ready.

        Raises
        ------
        ChildFailed
            When one ends, or is not ready in its time. The others still run.
        Interrupted
            When `stop` was set.
        """
        for child in self._children:
            if self._stop.is_set():
                raise Interrupted
            progress(child.spec.name)
            self._spawn(child)
            self._wait_until_ready(child)

    def _spawn(self, child: Child) -> None:
        child.spawn(None if self._lock is None else self._lock.descriptor)

    def _wait_until_ready(self, child: Child) -> None:
        deadline = time.monotonic() + child.spec.ready_seconds
        while not child.is_ready():
            if not child.is_running():
                raise ChildFailed(child.spec.name, child.ending(), child.last_lines())
            if time.monotonic() >= deadline:
                reason = f"was not ready within {child.spec.ready_seconds:.0f} seconds"
                raise ChildFailed(child.spec.name, reason, child.last_lines())
            if self._stop.wait(POLL_SECONDS):
                raise Interrupted

    def poll(self) -> None:
        """Look after the children once: report those that died, start again those whose time has come."""
        for child in self._children:
            if child.is_running():
                continue
            now = time.monotonic()
            if child.restart_at is None:
                self._schedule_restart(child, now)
            elif now >= child.restart_at:
                self._spawn(child)
                self._say(f"{child.spec.name} was started again")

    def _schedule_restart(self, child: Child, now: float) -> None:
        if now - child.started_at >= HEALTHY_SECONDS:
            child.back_off = FIRST_BACK_OFF_SECONDS
        child.restart_at = now + child.back_off
        self._say(f"{child.spec.name} {child.ending()}; it is started again in {child.back_off:.0f} s")
        child.back_off = min(child.back_off * 2, LONGEST_BACK_OFF_SECONDS)

    def run(self) -> None:
        """Keep the children running until `stop` is set."""
        while not self._stop.wait(POLL_SECONDS * 4):
            self.poll()

    def processes(self) -> dict[str, int]:
        """Return the process id of every running child's subreaper."""
        return {child.spec.name: child.process.pid for child in self._children if child.process and child.is_running()}

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop every child, those with `stops_last` after the others; return when nothing is left.

        `hurry` is asked while waiting; once it answers True nothing is waited for any longer.
        """
        for last in (False, True):
            stopping = [child for child in self._children if child.spec.stops_last is last and child.is_running()]
            for child in stopping:
                child.signal(signal.SIGTERM)
            self._wait_for_end(stopping, hurry)
        for child in self._children:
            child.close()
            child.close_log()

    def _wait_for_end(self, children: Iterable[Child], hurry: Callable[[], bool]) -> None:
        started = time.monotonic()
        hurried = False
        while running := [child for child in children if child.is_running()]:
            if hurry() and not hurried:
                hurried = True
                for child in running:
                    child.signal(signal.SIGINT)  # to a subreaper it means: at once
            for child in running:
                if time.monotonic() - started > child.spec.stop_seconds + SUBREAPER_MARGIN_SECONDS:
                    child.signal(signal.SIGKILL)  # the subreaper itself hangs; its command dies with it
            time.sleep(POLL_SECONDS)
