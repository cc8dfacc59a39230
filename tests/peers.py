"""Outside programs for the tests: found, started on free loopback ports, waited for, stopped by process id.

A program that is not installed skips the test, unless BONEWATCH_REQUIRE_PEERS=1: then the test fails, so that CI never
passes with a peer left out.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from tests import processes

LOOPBACK = "127.0.0.1"
_POSTGRES_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", *map(str, _POSTGRES_FOLDERS)])


def program(name: str) -> str:
    """Return the full path of an outside program; skip (or, in CI, fail) the test where it is missing."""
    found = shutil.which(name, path=_SEARCH_PATH)
    if found is None:
        message = f"{name} is not installed; `make peers` installs it"
        if os.environ.get("BONEWATCH_REQUIRE_PEERS") == "1":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return found


def patient(seconds: float) -> float:
    """Return how long to wait, in seconds, for what a free machine does in `seconds`.

    The bound is there to end a test that hangs, not to time it: other work on the machine must not fail a test.
    """
    return 5 * seconds


def run(name: str, *arguments: object, seconds: float = 60, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run an outside program to its end and return what it printed; `expect` is the exit status (None: any)."""
    command = [program(name), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=patient(seconds), check=False
    )
    if expect is not None and done.returncode != expect:
        pytest.fail(f"{name} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def free_port() -> int:
    """Return a loopback TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def accepts_connections(port: int, host: str = LOOPBACK) -> bool:
    """Say whether something listens on a loopback port."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def wait_until(
    predicate: Callable[[], Any], seconds: float, what: str, every: float = 0.05, explain: Callable[[], str] = str
) -> Any:
    """Ask again and again until the answer is true, and return it; fail with `what` when the time is over.

    `explain` is asked then, and only then, for what else a reader of the failure should see.
    """
    end = time.monotonic() + patient(seconds)
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() > end:
            pytest.fail(f"not seen within {seconds:g} s: {what}; last answer: {answer!r}\n{explain()}")
        time.sleep(every)


_running: set[int] = set()


def running() -> frozenset[int]:
    """Return the process ids of the services that run now."""
    return frozenset(_running)


class Service:
    """A long-running program of a test, in a session of its own, with its output in a file.

    `stop` ends it and everything that it started; a service that died by itself fails the test that notices.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = None if environment is None else dict(environment)
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether its end was waited for, or it was never started."""
        return self._process is None

    def start(self, ready: Callable[[], bool], seconds: float = 30) -> Self:
        """Start the program and return when `ready` says so."""
        assert self._process is None, f"{self.name} runs already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
                start_new_session=True,
            )
        _running.add(self.pid)
        try:
            wait_until(lambda: self.check() or ready(), seconds, f"{self.name} ready", explain=self.tail)
        except BaseException:
            self.kill()
            raise
        return self

    def check(self) -> None:
        """Fail the test if the program has ended."""
        if self._process is None or self._process.poll() is not None:
            status = None if self._process is None else self._process.returncode
            pytest.fail(f"{self.name} is not running (status {status}); log:\n{self.tail()}")

    def tail(self, characters: int = 4000) -> str:
        """Return the end of what it printed."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def send_signal(self, number: int) -> None:
        """Send a signal to the program itself."""
        os.kill(self.pid, number)

    def wait(self, seconds: float) -> int:
        """Return the exit status once it has ended by itself; what it leaves behind is for `processes.orphans`."""
        assert self._process is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            tail = self.tail()
            self.kill()
            pytest.fail(f"{self.name} has not ended within {seconds:g} s; log:\n{tail}")
        self._forget()
        return status

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int | None:
        """End it as an operator would and return its exit status; None where it was not running."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self.send_signal(number)
        return self.wait(seconds)

    def kill(self) -> None:
        """End it and everything it started with SIGKILL, at once."""
        if self._process is None:
            return
        if self._process.poll() is None:
            processes.kill_tree(self.pid)
        self._process.wait()
        self._forget()
        processes.reap()

    def _forget(self) -> None:
        _running.discard(self.pid)
        self._process = None
