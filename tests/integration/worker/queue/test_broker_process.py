from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests import processes
from tests.peers import wait_until
from worker.errors import BrokerError
from worker.process.up import COMMAND
from worker.queue.broker import EmbeddedBroker, socket_path

pytestmark = pytest.mark.slow


def client(broker: EmbeddedBroker) -> Redis:
    return Redis(unix_socket_path=str(broker.socket))


def test_it_answers_once_started_and_is_gone_once_stopped(tmp_path):
    broker = EmbeddedBroker(tmp_path)
    with broker, client(broker) as redis:
        pid = broker.pid
        assert redis.ping()
        assert redis.config_get("appendonly") == {"appendonly": "yes"}
        assert (tmp_path / "run" / "broker.pid").read_text() == f"{pid}\n"

    assert not broker.is_running()
    assert not Path(f"/proc/{pid}").exists()
    assert not broker.socket.exists()
    assert not (tmp_path / "run" / "broker.pid").exists()


def test_what_waits_in_it_outlives_a_stop(tmp_path):
    with EmbeddedBroker(tmp_path) as broker, client(broker) as redis:
        redis.rpush("live", "message")

    with EmbeddedBroker(tmp_path) as broker, client(broker) as redis:
        assert redis.lrange("live", 0, -1) == [b"message"]


def test_a_second_one_for_the_same_home_is_refused_and_the_first_goes_on(tmp_path):
    with EmbeddedBroker(tmp_path) as broker:
        with pytest.raises(BrokerError, match="already"):
            EmbeddedBroker(tmp_path).start()
        with client(broker) as redis:
            assert redis.ping()


def test_what_a_killed_one_left_behind_does_not_keep_the_next_from_starting(tmp_path):
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    with client(broker) as redis:
        redis.set("kept", "1")
        redis.execute_command("WAITAOF", 1, 0, 2000)
    os.kill(broker.pid, signal.SIGKILL)
    wait_until(lambda: not broker.is_running(), 5, "the broker is dead")
    assert broker.socket.exists()

    with EmbeddedBroker(tmp_path) as again, client(again) as redis:
        assert redis.get("kept") == b"1"


def test_a_home_with_a_long_path_works(tmp_path):
    home = tmp_path / ("a long path with spaces " * 5)
    with EmbeddedBroker(home) as broker, client(broker) as redis:
        assert redis.ping()
    broker.socket.parent.rmdir()


def test_a_socket_that_cannot_be_made_is_said_in_words(tmp_path):
    path = socket_path(tmp_path)
    path.mkdir(parents=True)
    (path / "in the way").touch()

    with pytest.raises(BrokerError, match="in the broker's way"):
        EmbeddedBroker(tmp_path).start()


@contextlib.contextmanager
def role(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the broker as a process of its own; gives it and the server's process id."""
    address = home / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(30)
        process = subprocess.Popen(
            [*COMMAND, "broker", "--home", str(home)], env={**os.environ, "NOTIFY_SOCKET": str(address)}
        )
        try:
            assert listener.recv(100) == b"READY=1"
            yield process, int((home / "run" / "broker.pid").read_text())
        finally:
            process.kill()
            process.wait(60)


def test_as_a_process_of_its_own_it_says_when_it_is_ready_and_stops_on_sigterm(tmp_path):
    with role(tmp_path) as (process, server):
        process.terminate()
        assert process.wait(60) == 0
        assert not Path(f"/proc/{server}").exists()


def test_the_server_dies_with_its_killed_owner(tmp_path):
    with role(tmp_path) as (process, server):
        process.kill()
        wait_until(lambda: not processes.is_alive(server), 10, "the server is dead")
