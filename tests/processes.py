"""The processes that the tests have started, from Linux's /proc: whose child is whose, and who was left behind.

`adopt_orphans` makes the test process the reaper of everything below it (prctl(2), PR_SET_CHILD_SUBREAPER): a process
whose parent died becomes a child of the tests instead of init's, and so cannot hide.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make every orphan below this process its child."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children(pid: int) -> list[int]:
    """Return the living children of a process, zombies left out."""
    return [child for child, (parent, state) in _table().items() if parent == pid and state != "Z"]


def tree(pid: int) -> list[int]:
    """Return a process and everything below it, parents first."""
    table = _table()
    found = [pid]
    for known in found:
        found.extend(child for child, (parent, state) in table.items() if parent == known and state != "Z")
    return found


def kill_tree(pid: int) -> list[int]:
    """SIGKILL a process and everything below it, and return the process ids.

    All are stopped first: none can start another, or notice the death of its parent, while the others die.
    """
    stopped: list[int] = []
    while new := [member for member in tree(pid) if member not in stopped]:
        for member in new:
            _send(member, signal.SIGSTOP)
        stopped.extend(new)
    for member in stopped:
        _send(member, signal.SIGKILL)
    return stopped


def reap() -> None:
    """Collect the dead among the adopted."""
    for child, (parent, state) in _table().items():
        if parent == os.getpid() and state == "Z":
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


def is_alive(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    return _table().get(pid, (0, "Z"))[1] != "Z"


def command_line(pid: int) -> str:
    """Return what a process was started with; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process and the living ones below it have used (proc(5), utime and stime)."""
    ticks = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def left_behind(known: frozenset[int] = frozenset()) -> dict[int, str]:
    """Return the living children of the tests that are not `known`, with their command lines.

    Python's own resource tracker (multiprocessing) lives as long as the interpreter does: it is no one's leftover.
    """
    found = {child: command_line(child) for child in children(os.getpid()) if child not in known}
    return {child: command for child, command in found.items() if command and "resource_tracker" not in command}


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _table() -> dict[int, tuple[int, str]]:
    """Return parent and state of every process (proc(5), /proc/PID/stat: the name in brackets may hold anything)."""
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                table[int(entry.name)] = (int(parent), state)
    return table
