"""The walk of docs/first-hour.md: its commands, in its order, and what it says that they print."""

from __future__ import annotations

import doctest
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dicom_io.demo_pacs import DemoPacs
from dicom_io.send.sender import REPORT_CLASSES
from tests.peers import LOOPBACK, Service, accepts_connections, free_port, patient, program
from tests.product import COMMAND, ROOT, Bonewatch, clean_environment

pytestmark = [pytest.mark.peer, pytest.mark.slow]

DOCUMENT = ROOT / "docs" / "first-hour.md"
# What the document leaves at its default, and a test must not wait for.
HURRY = {"quiet_seconds": 2, "sweep_seconds": 1, "minimum_free_bytes": 0}


@dataclass
class Step:
    """A command as the document shows it, and what it is said to print; "^C" is pressed in the first shell."""

    command: str
    printed: list[str] = field(default_factory=list)


def steps(text: str) -> list[Step]:
    found: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            if line == "^C" or line.startswith("$ "):
                found.append(Step(line.removeprefix("$ ")))
            elif line.startswith("> "):
                found[-1].command += "\n" + line[2:]
            else:
                found[-1].printed.append(line)
    return found


class Walk:
    """An administrator at two shells of one machine, and a PACS that receives and commits."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "h"
        self.home.mkdir()
        self.port, self.page_port = free_port(), free_port()
        self.pacs = DemoPacs(folder / "pacs", ae_title="PACS", requesters={"BONEWATCH": (LOOPBACK, self.port)})
        self.site = Bonewatch(self.home / ".bonewatch")  # to be asked, not to be started
        self._log = folder / "up.log"
        self._up: Service | None = None
        self._seen = 0

    def words(self, text: str) -> str:
        """Return a text of the document with this machine's addresses."""
        pairs = {"11112": self.port, "8501": self.page_port, "10.0.0.5": LOOPBACK, "104": self.pacs.port}
        return re.sub(r"\b(11112|8501|10\.0\.0\.5|104)\b", lambda found: str(pairs[found[0]]), text)

    @property
    def environment(self) -> dict[str, str]:
        ports = {"BONEWATCH_DICOM_PORT": str(self.port), "BONEWATCH_UI_PORT": str(self.page_port)}
        path = os.pathsep.join([str(Path(COMMAND).parent), os.environ["PATH"]])
        return clean_environment(HURRY) | ports | {"HOME": str(self.home), "PATH": path}

    def take(self, step: Step) -> None:
        """Do what one step says and compare what is printed."""
        command = self.words(step.command)
        if command == "^C":
            printed = self._stop()
        elif command.startswith("bonewatch up"):
            printed = self._start(command)
        else:
            printed = self._run(command)
        wanted = self.words("\n".join(step.printed))
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if not doctest.OutputChecker().check_output(f"{wanted}\n", f"{printed}\n", flags):
            pytest.fail(f"$ {command}\n--- the document:\n{wanted}\n--- printed:\n{printed}\n{self.situation()}")
        if command.startswith(("dcmsend", "bonewatch retry")):
            # The document waits half a minute here.
            self.site.wait_for("SELECT count(*) FROM studies", 30, f"what {command} sent")
            self.site.wait_until_committed(self.site.one("SELECT count(*) FROM studies"))

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=patient(60), check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command}\nended with {done.returncode}\n{done.stdout}\n{self.situation()}"
        return done.stdout

    def _start(self, command: str) -> str:
        if "--home" in command:
            self.site = Bonewatch(Path(command.split("--home ")[1].replace("~", str(self.home))))
        self._seen = self._log.stat().st_size if self._log.exists() else 0
        self._up = Service("bonewatch up", ["bash", "-c", f"exec {command}"], self._log, self.environment)
        self._up.start(lambda: "Look at" in self._shown() and accepts_connections(self.port), 90)
        return self._shown()

    def _stop(self) -> str:
        assert self._up is not None
        shown = len(self._shown())
        assert self._up.stop(signal.SIGINT, patient(60)) == 0
        return self._shown()[shown:]

    def _shown(self) -> str:
        return self._log.read_bytes()[self._seen :].decode() if self._log.exists() else ""

    def situation(self) -> str:
        """Return what there is, for a failed test."""
        return f"{self.site.situation()}\n{self._shown()[-3000:]}"

    def end(self) -> None:
        if self._up is not None:
            self._up.kill()


@pytest.fixture
def walk(tmp_path):
    program("dcmsend")
    program("sqlite3")
    walk = Walk(tmp_path)
    with walk.pacs:
        yield walk
        walk.end()


def test_the_first_hour_goes_as_it_is_written(walk):
    for step in steps(DOCUMENT.read_text(encoding="utf-8")):
        walk.take(step)

    reports = [each.header for each in walk.pacs.held() if each.header.sop_class_uid in REPORT_CLASSES]
    assert len(reports) == 3, "one of each study, and the one of the analysis that was asked for again"
    assert len({each.study_instance_uid for each in reports}) == 2
    assert walk.site.home.name == "restored"
    known = walk.site.rows("SELECT sop_instance_uid FROM reports")
    assert {row["sop_instance_uid"] for row in known} == {each.sop_instance_uid for each in reports}
    assert walk.site.one("SELECT count(*) FROM rejections") == 0
