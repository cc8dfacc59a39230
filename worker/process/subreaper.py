"""Keeps one child process and everything that it starts: when the owner goes, all of it goes.

`bonewatch up` runs every role under such a subreaper. The subreaper watches a pipe whose other end only the owner
holds; the kernel closes it however the owner ends, `kill -9` included. It also adopts orphans among its
descendants, so that the pool processes of a killed worker come to it and not to init.

It is started as a file by path, in an isolated interpreter, and uses the standard library alone: it must be small, and
up before anything else can go wrong.

    python -I -S subreaper.py LIFELINE_FD GRACE_SECONDS COMMAND...

SIGTERM asks the command to stop within its grace; SIGINT ends it at once. The exit status is the command's, 128 + n
where signal n ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

# linux/prctl.h; other systems have neither, and there the process group alone has to do.
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ORPHANED_GRACE_SECONDS = 2.0
"""How long the command may take to stop once the owner is gone: short, because a new owner may be waiting."""
COULD_NOT_START = 127


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Ask the kernel to end this process with `signal_number` when its parent dies (Linux only)."""
    _prctl(PR_SET_PDEATHSIG, signal_number)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies (Linux only)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def children_of_this_process() -> list[int]:
    """Return the process ids of our direct children (Linux; elsewhere none are found)."""
    found = []
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:  # a thread that has just ended
            continue
    return found


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class _Subreaper:
    """One command from start to its last descendant."""

    def __init__(self, lifeline: int, grace_seconds: float, command: list[str]) -> None:
        self.lifeline: int | None = lifeline
        self.grace_seconds = grace_seconds
        self.deadline: float | None = None
        self.exit_status: int | None = None
        self.wake_reader, self.wake_writer = os.pipe()
        os.set_blocking(self.wake_writer, False)
        signal.set_wakeup_fd(self.wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        adopt_orphans()
        subreaper = os.getpid()

        def before_exec() -> None:
            die_with_parent()
            if os.getppid() != subreaper:  # the subreaper was killed between fork and prctl
                os._exit(COULD_NOT_START)

        self.child = subprocess.Popen(command, preexec_fn=before_exec, process_group=0)  # noqa: PLW1509 - no threads here

    def run(self) -> int:
        """Wait for the command, the owner's signal or the owner's end; return the command's exit status."""
        while self.exit_status is None:
            self._wait_for_something()
            if self.deadline is not None and time.monotonic() >= self.deadline:
                self._signal(signal.SIGKILL)
                self.deadline = None
        self._end_descendants()
        return self.exit_status

    def _wait_for_something(self) -> None:
        watched = [self.wake_reader] + ([] if self.lifeline is None else [self.lifeline])
        timeout = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        ready, _, _ = select.select(watched, [], [], timeout)
        if self.lifeline in ready:  # nobody ever writes to it: readable means closed
            self.lifeline = None
            self._stop_within(ORPHANED_GRACE_SECONDS)
        if self.wake_reader in ready:
            arrived = set(os.read(self.wake_reader, 64))
            if signal.SIGINT in arrived:
                self._stop_within(0.0)
            elif signal.SIGTERM in arrived and self.deadline is None:
                self._stop_within(self.grace_seconds)
            self._reap()

    def _stop_within(self, seconds: float) -> None:
        self._signal(signal.SIGTERM)
        self.deadline = time.monotonic() + seconds

    def _signal(self, number: int) -> None:
        if self.exit_status is None:
            os.kill(self.child.pid, number)

    def _reap(self) -> None:
        """Collect every child that has ended, adopted ones too."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            if process == self.child.pid:
                code = os.waitstatus_to_exitcode(status)
                self.exit_status = code if code >= 0 else 128 - code

    def _end_descendants(self) -> None:
        """Kill what the command left behind; each kill hands its children over to us, until none is left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)
        while True:
            for process in children_of_this_process():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def main(arguments: list[str]) -> int:
    """Run the command line shown at the head of this file."""
    lifeline, grace_seconds, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    os.set_inheritable(lifeline, False)
    try:
        subreaper = _Subreaper(lifeline, grace_seconds, command)
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        return COULD_NOT_START
    return subreaper.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
