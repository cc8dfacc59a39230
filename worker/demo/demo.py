"""The demonstration: a whole bonewatch in a throw-away home, and a small PACS that gives it work and takes its reports.

It uses nothing of the site: neither its home nor its database, broker or destinations. Only the choice of the model
and of the device is taken over.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from dicom_io.demo_pacs import DemoPacs
from dicom_io.send.sender import REPORT_CLASSES, send
from dicom_io.types import Destination
from worker.db.database import Database, open_database
from worker.db.tables import Companion, Delivery, Job, Report, Study
from worker.demo.samples import SampleStudy
from worker.errors import Interrupted
from worker.operate.results import ResultRow, results
from worker.process.supervisor import Supervisor, Surroundings
from worker.process.up import log_folder, make_home, prepare, roles
from worker.queue.broker import socket_path
from worker.settings.settings import PREFIX, Settings, load_settings

LOOPBACK = "127.0.0.1"
AE_TITLE = "BONEWATCH"
PACS_AE_TITLE = "DEMOPACS"
KEPT = ("BUNDLE", "DEVICE", "THREADS", "ANALYSIS_PROCESSES")
"""The settings of the site that hold for the demonstration too."""
POLL_SECONDS = 0.25
ANSWERED = ("present", "inconclusive", "absent")


@dataclass(frozen=True, slots=True)
class DemoState:
    """How far the demonstration is: studies received, analysed, and with a committed report."""

    rows: Mapping[str, ResultRow]
    received: int
    analysed: int
    committed: int


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """What keeps the demonstration from being a success, for one study."""

    study: str
    reason: str


class Demo:
    """One demonstration, from empty folders to committed reports. Use it as a context manager; it leaves nothing.

    `environment` is this process's own: it is cleaned of the site's settings for good, and the services inherit it.
    """

    def __init__(
        self,
        samples: Sequence[SampleStudy],
        environment: MutableMapping[str, str],
        say: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        self.samples = tuple(samples)
        self._environment = environment
        self._say = say
        self._stop = stop
        self._exits = contextlib.ExitStack()
        self.hurry = False

    def __enter__(self) -> Demo:
        # Short: a Unix socket's path below it may have 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="bw-demo-"))
        self._exits.callback(self._remove_home)
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def start(self, progress: Callable[[str], None]) -> str:
        """Start the PACS and bonewatch; return the version of the model.

        Raises
        ------
        worker.errors.ChildFailed, worker.errors.Interrupted, worker.errors.StartRefused, models.types.BundleError
            When something does not start.
        """
        port = free_port()
        self.pacs = DemoPacs(self.home / "pacs", ae_title=PACS_AE_TITLE, requesters={AE_TITLE: (LOOPBACK, port)})
        self._exits.enter_context(self.pacs)
        self.settings = self._settings(port)
        make_home(self.settings)
        version = prepare(self.settings)
        self.database: Database = open_database(self.settings.sqlalchemy_url())
        self._exits.callback(self.database.close)
        surroundings = Surroundings(log_folder(self.settings), self._say, self._stop)
        self._supervisor = Supervisor(roles(self.settings, self._surroundings()), surroundings)
        self._exits.callback(lambda: self._supervisor.stop(lambda: self.hurry or self._stop.is_set()))
        self._supervisor.start(progress)
        return version

    def push(self) -> Iterator[SampleStudy]:
        """Push every study as a PACS does, one association a study, bit for bit; yield each once it was accepted."""
        listener = Destination("bonewatch", AE_TITLE, LOOPBACK, self.settings.dicom_port, PACS_AE_TITLE)
        for study in self.samples:
            if self._stop.is_set():
                raise Interrupted
            send(listener, study.files)
            yield study

    def wait(self, deadline: float) -> Iterator[DemoState]:
        """Yield the state again and again, until every study is through or `time.monotonic()` reaches the deadline."""
        while True:
            state = self.state()
            yield state
            whole = state.committed == len(self.samples) and not self._undelivered()
            if whole or time.monotonic() >= deadline:
                return
            self._supervisor.poll()
            if self._stop.wait(POLL_SECONDS):
                raise Interrupted

    def state(self) -> DemoState:
        """Ask SQL how far everything is."""
        rows = {row.study_instance_uid: row for row in results(self.database)}
        ours = [rows[each.study_instance_uid] for each in self.samples if each.study_instance_uid in rows]
        return DemoState(
            rows=rows,
            received=len(ours),
            analysed=sum(row.state in ("done", "failed") for row in ours),
            committed=sum(row.report_state == "committed" for row in ours),
        )

    def shortcomings(self, state: DemoState) -> tuple[Shortcoming, ...]:
        """Compare what SQL says with what the PACS really holds."""
        found = ((study, self._shortcoming(study, state.rows.get(study.study_instance_uid))) for study in self.samples)
        return tuple(Shortcoming(study.name, reason) for study, reason in found if reason is not None)

    def _shortcoming(self, study: SampleStudy, row: ResultRow | None) -> str | None:
        if row is None:
            return "the study was not received"
        if row.outcome is None:
            return f"the study is not analysed yet ({row.state})"
        if row.outcome not in ANSWERED:
            return f"{row.outcome}: {row.reason}"
        if row.report_state != "committed":
            return f"the report is {row.report_state}, not committed: {row.report_reason or 'no answer yet'}"
        held = {
            each.header.sop_instance_uid
            for each in self.pacs.held()
            if each.header.study_instance_uid == study.study_instance_uid and each.path.is_file()
        }
        pictures = self.pictures(study)
        if held != {row.report_sop_instance_uid, *pictures}:
            return f"SQL says committed, but the PACS holds {len(held)} objects of this study, or other ones"
        return None

    def pictures(self, study: SampleStudy) -> frozenset[str]:
        """Return the SOP Instance UIDs of the marked images and presentation states that SQL says are committed."""
        of_study = (
            select(Delivery.sop_instance_uid)
            .join(Delivery.companion)
            .join(Companion.report)
            .join(Report.job)
            .join(Job.study)
            .where(Study.study_instance_uid == study.study_instance_uid, Delivery.state == "committed")
        )
        with self.database.read() as session:
            return frozenset(uid for uid in session.scalars(of_study) if uid)

    def _undelivered(self) -> int:
        """Count the pictures that are still on their way."""
        with self.database.read() as session:
            waiting = select(func.count()).where(Delivery.companion_id.is_not(None), Delivery.state != "committed")
            return session.scalar(waiting) or 0

    def report(self, study: SampleStudy) -> Path | None:
        """Return the file of a study's report as the PACS keeps it."""
        ours = (each for each in self.pacs.held() if each.header.study_instance_uid == study.study_instance_uid)
        return next((each.path for each in ours if each.header.sop_class_uid in REPORT_CLASSES), None)

    def _settings(self, port: int) -> Settings:
        site = load_settings().as_environment()
        for name in [name for name in self._environment if name.startswith(PREFIX)]:
            del self._environment[name]
        kept = (f"{PREFIX}{name}" for name in KEPT)
        self._environment.update({name: site[name] for name in kept if name in site})
        destination = {"name": "demo-pacs", "ae_title": PACS_AE_TITLE, "host": LOOPBACK, "port": self.pacs.port}
        chosen: dict[str, object] = {
            "home": self.home,
            "ae_title": AE_TITLE,
            "dicom_host": LOOPBACK,
            "dicom_port": port,
            "allowed_callers": PACS_AE_TITLE,
            "destinations": json.dumps([destination]),
            "quiet_seconds": 2,
            "sweep_seconds": 1,
            "delivery_backoff_seconds": 1,
            "minimum_free_bytes": 0,
            "marked_image": "findings",
            "presentation_state": "true",
        }
        self._environment.update({f"{PREFIX}{name.upper()}": str(value) for name, value in chosen.items()})
        return load_settings()

    def _surroundings(self) -> dict[str, str]:
        """Keep the services' temporary files in the home too: what is killed does not clean up after itself."""
        if not socket_path(self.home).is_relative_to(self.home):
            return {}  # the broker's socket needs the shorter folder
        folder = self.home / "tmp"
        folder.mkdir()
        return {"TMPDIR": str(folder)}

    def _remove_home(self) -> None:
        folder = socket_path(self.home).parent
        shutil.rmtree(self.home, ignore_errors=True)
        if not folder.is_relative_to(self.home):
            shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
