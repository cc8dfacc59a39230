"""The harness itself: a peer that is missing is never passed over in CI, and what is left behind is found."""

import os
import subprocess
import sys
import time

import pytest

from tests import processes
from tests.peers import Service, program, wait_until


def test_a_missing_peer_skips_the_test(monkeypatch):
    monkeypatch.delenv("BONEWATCH_REQUIRE_PEERS", raising=False)

    with pytest.raises(pytest.skip.Exception, match="make peers"):
        program("no-such-program")


def test_a_missing_peer_fails_the_test_where_peers_are_required(monkeypatch):
    monkeypatch.setenv("BONEWATCH_REQUIRE_PEERS", "1")

    with pytest.raises(pytest.fail.Exception, match="make peers"):
        program("no-such-program")


def test_a_process_whose_parent_died_is_found_and_ended(tmp_path):
    # A shell that starts a sleeper and dies at once: the sleeper becomes ours, and cannot hide.
    started = subprocess.run(
        ["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True, check=True
    )
    orphan = int(started.stdout)
    assert "sleep 60" in processes.left_behind()[orphan]

    processes.kill_tree(orphan)
    os.waitpid(orphan, 0)

    assert orphan not in processes.left_behind()


def test_the_processor_time_of_a_process_holds_its_childrens():
    with subprocess.Popen(["sh", "-c", "sh -c 'while :; do :; done' & wait"]) as shell:
        try:
            wait_until(lambda: processes.processor_seconds(shell.pid) > 0.1, 60, "the child of the shell works")
        finally:
            processes.kill_tree(shell.pid)


def test_a_service_that_dies_while_it_starts_fails_with_what_it_said(tmp_path):
    service = Service("broken", [sys.executable, "-c", "print('no such luck')"], tmp_path / "log")

    with pytest.raises(pytest.fail.Exception, match="no such luck"):
        service.start(lambda: False, seconds=20)

    assert service.has_ended


def test_waiting_ends_with_words():
    start = time.monotonic()

    with pytest.raises(pytest.fail.Exception, match=r"not seen within 0\.05 s: the moon"):
        wait_until(lambda: None, 0.05, "the moon", every=0.01)

    assert time.monotonic() - start < 5
