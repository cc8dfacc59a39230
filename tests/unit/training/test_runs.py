"""What a run's record says of the code that it ran with."""

import json
import os
import signal
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.runs import SCHEDULES, Run, commit_of, stop_asked


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    return subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_code_that_differs_from_its_commit_is_dirty(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("one")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "one")
    git(tmp_path, "tag", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "untracked.py").touch()

    clean = commit_of(tmp_path)
    (tmp_path / "code.py").write_text("two")

    assert (clean, commit_of(tmp_path)) == (commit, f"{commit}-dirty")


def test_outside_a_repository_the_commit_is_unknown(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == "unknown"


def test_a_record_names_the_versions_that_pictures_pass_through(tmp_path: Path) -> None:
    Run(tmp_path, {}).finish()

    environment = json.loads((tmp_path / "run.json").read_text())["environment"]
    assert (environment["numpy"], environment["opencv"]) == (np.__version__, cv2.__version__)


def test_a_record_names_the_code_that_the_run_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.runs.commit_of", lambda _: "first")
    run = Run(tmp_path, {})
    monkeypatch.setattr("training.runs.commit_of", lambda _: "second")

    run.finish()

    assert json.loads((tmp_path / "run.json").read_text())["commit"] == "first"


def test_a_constant_rate_warms_up_and_stays_whatever_the_number_of_steps() -> None:
    rates = [[SCHEDULES["constant"](step, total, 10) for step in range(50)] for total in (50, 5000)]

    assert rates[0] == rates[1]
    assert rates[0][:10] == [pytest.approx((step + 1) / 10) for step in range(10)]
    assert set(rates[0][9:]) == {1.0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_once_and_the_handlers_are_as_before_afterwards(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    with stop_asked() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(5)
        assert signal.getsignal(number) == signal.SIG_DFL

    assert signal.getsignal(number) == before


def test_a_run_that_goes_on_counts_the_time_up_to_its_checkpoint_not_the_time_between(tmp_path: Path) -> None:
    history = [{"step": 1, "seconds": 60.0}]
    known, older = Run(tmp_path, {}), Run(tmp_path, {})

    known.resume(history, 300.0)
    older.resume(history)

    assert 300 <= known.seconds < 310
    assert 60 <= older.seconds < 70
