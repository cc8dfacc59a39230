"""The commands that need nothing running: `analyze` and `demo`, as a person starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from pydicom import dcmread

from tests import processes
from tests.peers import Service, free_port, running, wait_until
from tests.product import COMMAND, ROOT, SAMPLES, Bonewatch, clean_environment

pytestmark = pytest.mark.slow

ANSWERED = {"path", "sop_instance_uid", "outcome", "probability", "boxes", "model_version", "seconds"}


def test_analyze_prints_json_with_nothing_running(tmp_path):
    home = tmp_path / "home"

    done = Bonewatch(home).command("analyze", str(SAMPLES), "--json")

    answers = json.loads(done.stdout)
    dicom = [each for each in answers if each["path"].endswith(".dcm")]
    assert len(dicom) == len(list(SAMPLES.glob("*/*.dcm")))
    for each in dicom:
        assert set(each) >= ANSWERED
        assert each["outcome"] in {"present", "inconclusive", "absent"}
        assert 0 <= each["probability"] <= 1
        image = dcmread(each["path"], stop_before_pixels=True)
        assert each["sop_instance_uid"] == image.SOPInstanceUID
        for box in each["boxes"]:
            x1, y1, x2, y2 = box["xyxy"]
            assert 0 <= x1 < x2 <= image.Columns
            assert 0 <= y1 < y2 <= image.Rows
            assert 0 <= box["score"] <= 1
    assert {each["outcome"] for each in answers} <= {"present", "inconclusive", "absent", "out_of_scope"}
    assert done.returncode == 0
    assert not home.exists(), "analyze needs no home"


def demo(tmp_path) -> Service:
    # All of the demo's own files lie below TMPDIR, so that what it leaves there can be seen.
    scratch = tmp_path / "t"
    scratch.mkdir()
    environment = {**clean_environment({"dicom_port": str(free_port())}), "TMPDIR": str(scratch)}
    return Service("bonewatch demo", [COMMAND, "demo"], tmp_path / "demo.log", environment)


def test_demo_delivers_and_commits_every_report_and_leaves_nothing(tmp_path):
    start = time.monotonic()
    service = demo(tmp_path).start(lambda: True)

    status = service.wait(180)

    shown = service.tail(100_000)
    assert status == 0, shown
    assert time.monotonic() - start < 180
    studies = {path.parent.name for path in SAMPLES.glob("*/*.dcm")}
    assert shown.lower().count("committed") >= len(studies), shown
    assert not processes.left_behind(known=running())
    assert not list((tmp_path / "t").iterdir())


@pytest.mark.parametrize("moment", ["at once", "while it starts", "in the middle"])
def test_ctrl_c_ends_the_demo_without_a_process_left(tmp_path, moment):
    service = demo(tmp_path).start(lambda: True)
    if moment == "while it starts":
        wait_until(lambda: len(processes.tree(service.pid)) > 2, 60, "the first children")
    if moment == "in the middle":
        wait_until(lambda: list((tmp_path / "t").rglob("*.dcm")), 90, "the first instance stored")

    # A terminal signals the whole foreground group.
    os.killpg(service.pid, signal.SIGINT)

    status = service.wait(45)
    assert status != 0, "an interrupted demo has not shown that every report was committed"
    if moment != "at once":  # Python may still be starting then, and what it prints before our first line is its own
        assert "Traceback" not in service.tail()
    wait_until(lambda: not processes.left_behind(known=running()), 5, "no process is left")
    assert not list((tmp_path / "t").iterdir())


def test_importing_the_commands_does_not_load_torch():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, worker.cli; sys.exit('torch' in sys.modules)"], cwd=ROOT, check=False
    )
    assert done.returncode == 0
