"""Signs of life: of a role that lives, of one that died, of a port that nobody serves."""

from __future__ import annotations

import os
import socket
import time
from contextlib import closing

import pytest
from typer.testing import CliRunner

from worker.cli.root import app
from worker.process.liveness import STALE_SECONDS, LivenessFile, age_seconds, beat, liveness_path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path))
    return tmp_path


def health(role):
    result = CliRunner().invoke(app, ["health", role])
    return result.exit_code, result.stderr


@pytest.mark.parametrize("role", ["work", "schedule"])
def test_a_role_lives_as_long_as_its_signs_are_fresh(home, role):
    path = liveness_path(home / "run", role)
    assert health(role) == (1, f"error: no {role} of this machine has given a sign of life\n")
    beat(path)
    assert health(role)[0] == 0
    old = time.time() - STALE_SECONDS - 5
    os.utime(path, (old, old))
    code, words = health(role)
    assert (code, "sign of life of" in words) == (1, True)


def test_the_liveness_file_is_touched_until_it_is_stopped_and_leaves_nothing_behind(home):
    path = liveness_path(home / "run", "work")
    liveness = LivenessFile(path)
    liveness.start()
    deadline = time.monotonic() + 100
    while age_seconds(path) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    liveness.stop()
    assert age_seconds(path) is None


@pytest.mark.parametrize(("role", "variable"), [("listen", "BONEWATCH_DICOM_PORT"), ("ui", "BONEWATCH_UI_PORT")])
def test_a_listening_role_lives_where_its_port_accepts(monkeypatch, role, variable):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv(variable, str(port))
        assert health(role)[0] == 0
    assert health(role) == (1, f"error: nothing accepts connections on port {port}\n")
