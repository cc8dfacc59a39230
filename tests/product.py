"""bonewatch itself as a program of the tests: started as an operator would, asked through SQL and its commands."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydicom import dcmread
from sqlalchemy import Engine, NullPool, create_engine, text

from tests import processes
from tests.peers import LOOPBACK, Service, accepts_connections, free_port, patient, wait_until

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "deploy" / "samples"
COMMAND = str(Path(sys.executable).with_name("bonewatch"))


def sample_files() -> list[Path]:
    """Return the images of all sample studies."""
    files = sorted(SAMPLES.glob("*/*.dcm"))
    assert len({path.parent for path in files}) >= 8, "deploy/samples holds at least eight studies"
    return files


def sample_studies() -> set[str]:
    """Return the sample studies' UIDs."""
    return {str(dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in sample_files()}


def clean_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Return this process's environment with these settings and no other of ours."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BONEWATCH_")}
    for name, value in settings.items():
        environment[f"BONEWATCH_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return environment


@functools.cache
def _engine(url: str) -> Engine:
    """Return what connects anew for each query, as other programs do; made once, for tests ask very often."""
    return create_engine(url, poolclass=NullPool)


class Bonewatch:
    """One installation: a home, ports, its settings, and the roles that run of it; `page` for `up` with the web page.

    `temporary` is the folder for what its roles keep for moments only, in place of the machine's: there it can be seen.
    Times are short so that tests are; everything else is the default that ships.
    """

    def __init__(self, home: Path, *, page: bool = False, temporary: Path | None = None, **settings: object) -> None:
        self.home = home
        self.temporary = temporary
        self.page = page
        self.port, self.page_port = free_port(), free_port()
        self.settings: dict[str, object] = {
            "home": str(home),
            "dicom_host": LOOPBACK,
            "dicom_port": self.port,
            "ui_port": self.page_port,
            "quiet_seconds": 1.5,
            "sweep_seconds": 1,
            "lease_seconds": 8,
            "delivery_backoff_seconds": 1,
            "commitment_timeout_seconds": 20,
            "minimum_free_bytes": 0,
            **settings,
        }
        self._services: list[Service] = []
        self._started = 0

    @property
    def main(self) -> Service:
        """The role that was started last."""
        return self._services[-1]

    def start(self, *command: str, seconds: float = 90) -> Service:
        """Start `up`, or a role that listens, and return when all of it is ready."""
        service = self._service((*command, "--no-page") if command == ("up",) and not self.page else command)
        greeting = "bonewatch is running" if command == ("up",) else ""
        return service.start(lambda: accepts_connections(self.port) and greeting in service.tail(), seconds)

    def start_role(self, *command: str) -> Service:
        """Start a role that listens to nothing."""
        return self._service(command).start(lambda: True)

    def start_page(self, *program: str, seconds: float = 60) -> Service:
        """Start the web page alone, `ui` or a program of the tests in its place, and return when it answers."""
        service = self._service(("ui",), program or (COMMAND, "ui"))
        return service.start(lambda: accepts_connections(self.page_port), seconds)

    def stop(self) -> None:
        """Stop every role as Ctrl-C does, the last started first."""
        while self._services:
            self._services.pop().stop()

    def kill(self) -> None:
        """SIGKILL everything at once, children included: a power cut."""
        while self._services:
            self._services.pop().kill()

    def command(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [COMMAND, *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=patient(seconds),
            check=False,
        )

    def rows(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """Return the rows of a query, as an administrator's own client would get them; none before the first start."""
        url = str(self.settings.get("database_url", f"sqlite:///file:{self.home}/bonewatch.sqlite3?mode=ro&uri=true"))
        if "database_url" not in self.settings and not (self.home / "bonewatch.sqlite3").exists():
            return []
        with _engine(url).connect() as connection:
            return [dict(row) for row in connection.execute(text(sql), parameters).mappings()]

    def one(self, sql: str, **parameters: object) -> Any:
        """Return the only value of the only row of a query."""
        (row,) = self.rows(sql, **parameters)
        (value,) = row.values()
        return value

    def wait_for(self, sql: str, seconds: float, what: str, **parameters: object) -> Any:
        """Wait until the only value of a query is true, and return it."""
        return wait_until(lambda: self._checked(sql, **parameters), seconds, what, explain=self.situation)

    def wait_until_committed(self, studies: int, seconds: float = 90) -> None:
        """Wait until this many studies have a finished job and no job or delivery is on its way."""
        what = f"{studies} studies analysed and committed"
        wait_until(lambda: self._is_settled(studies), seconds, what, every=0.25, explain=self.situation)

    def situation(self) -> str:
        """Return what there is, for the message of a failed test: states and reasons, and the ends of the logs."""
        lines = []
        for table, columns in (
            ("studies", "id, state, revision"),
            ("jobs", "id, study_id, state, attempts, outcome, reason, enqueued_at, lease_until"),
            ("deliveries", "id, report_id, state, attempts, next_attempt_at, reason"),
            ("rejections", "code, reason, status"),
        ):
            found = self.rows(f"SELECT {columns} FROM {table} ORDER BY 1 LIMIT 30")  # noqa: S608 - our own words
            lines += [f"{table}:", *(f"  {list(row.values())}" for row in found)]
        return "\n".join(lines + [f"{service.name}:\n{service.tail(3000)}" for service in self._services])

    def processes(self) -> dict[int, str]:
        """Return every process of the running roles with its command line."""
        members = [member for service in self._services for member in processes.tree(service.pid)]
        return {member: processes.command_line(member) for member in members}

    def _environment(self) -> dict[str, str]:
        environment = clean_environment(self.settings) | {"PYTHONPATH": str(ROOT)}  # `tests` is not installed
        if self.temporary is None:
            return environment
        self.temporary.mkdir(exist_ok=True)
        return environment | {"TMPDIR": str(self.temporary)}

    def _service(self, command: tuple[str, ...], program: tuple[str, ...] = ()) -> Service:
        self._started += 1
        log = self.home.parent / f"{self.home.name}-{self._started}-{command[0]}.log"
        full = program or (COMMAND, *command)
        self._services = [each for each in self._services if not each.has_ended]
        service = Service(f"bonewatch {command[0]}", full, log, self._environment())
        self._services.append(service)
        return service

    def _checked(self, sql: str, **parameters: object) -> Any:
        for service in self._services:
            service.check()
        return self.one(sql, **parameters)

    def _is_settled(self, studies: int) -> bool:
        # In the direction of the flow: a study that becomes a job, or a job a delivery, meanwhile is still met.
        open_studies = self._checked("SELECT count(*) FROM studies WHERE state = 'receiving'")
        open_jobs = self.one("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")
        open_deliveries = self.one("SELECT count(*) FROM deliveries WHERE state != 'committed'")
        done = self.one("SELECT count(DISTINCT study_id) FROM jobs WHERE state IN ('done', 'failed')")
        return done >= studies and open_jobs == open_studies == open_deliveries == 0
