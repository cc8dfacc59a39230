"""Real workers for tests: broker, database, store and a tiny bundle in one folder, and studies to put into them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text

from dicom_io.header.header import read_header
from dicom_io.store.folder import InstanceStore
from dicom_io.types import Peer
from tests.builders import build_cr, part10_bytes
from tests.bundles import tiny_manifest, write_manifest, write_quiet_bundle, write_tiny_bundle
from tests.peers import wait_until
from tests.product import ROOT
from worker.db.database import Database, open_database, upgrade
from worker.process.up import COMMAND
from worker.queue.broker import EmbeddedBroker
from worker.reception.intake import SqlIntake
from worker.settings.settings import Settings, load_settings
from worker.study.backoff import delay_seconds


class Site:
    """One installation without a listener: studies are put in by hand."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.values: dict[str, Any] = {
            "home": str(folder / "home"),
            "bundle": str(write_quiet_bundle(folder / "bundle")),
            "quiet_seconds": 0.2,
            "sweep_seconds": 0.5,
            "lease_seconds": 3,
            "threads": 1,
            "minimum_free_bytes": 0,
            **settings,
        }
        self.settings: Settings = load_settings(**self.values)
        upgrade(self.settings.sqlalchemy_url())
        self.database: Database = open_database(self.settings.sqlalchemy_url())
        self.store = InstanceStore(self.settings.store)
        self.broker = EmbeddedBroker(self.settings.home)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = folder / "workers.log"

    def receive(self, study: str, images: int = 1, **overrides: Any) -> None:
        """Take in a study as the listener would."""
        intake = SqlIntake(self.database, self.settings.scope(), delay_seconds, answerers=self.settings.answerers())
        for number in range(images):
            pixels = np.random.default_rng(number).integers(0, 4096, (64, 64), dtype=np.uint16)
            part10 = part10_bytes(build_cr(study=study, instance=f"{study}-{number}", pixels=pixels, **overrides))
            header = read_header(part10)
            intake.register(header, self.store.put(part10, header), Peer("PACS", "127.0.0.1"))

    def start(self, role: str) -> subprocess.Popen[bytes]:
        """Start a worker of its own process; its words go into the log."""
        return self.start_program(*COMMAND, role)

    def into_archive(self) -> None:
        """Let every study that is open count as one of the archive's."""
        with self.database.write() as session:
            session.execute(text("UPDATE studies SET source = 'get' WHERE state = 'receiving'"))

    def start_program(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program with this site's settings."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BONEWATCH_")}
        for name, value in self.values.items():
            environment[f"BONEWATCH_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
        environment["PYTHONPATH"] = str(ROOT)  # for programs of the tests: `tests` is not installed
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.settings.home,
            )
        self.processes.append(process)
        return process

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """Return what a query finds."""
        with self.database.read() as session:
            return list(session.execute(text(sql), values))

    def one(self, sql: str, **values: Any) -> Any:
        """Return the single value that a query finds."""
        ((value,),) = self.rows(sql, **values)
        return value

    def wait_for_jobs(self, count: int, state: str = "done", seconds: float = 120) -> None:
        """Wait until so many jobs are in a state."""
        wait_until(
            lambda: self.one("SELECT count(*) FROM jobs WHERE state = :state", state=state) >= count,
            seconds,
            f"{count} jobs {state}; the workers said: {self.log.read_text()[-3000:] if self.log.exists() else ''}",
        )

    def wait_until_running(self, **job: Any) -> None:
        """Wait until a job with these values runs."""
        wanted = " AND ".join(f"{name} = :{name}" for name in job)
        sql = f"SELECT count(*) FROM jobs WHERE state = 'running' AND {wanted}"  # noqa: S608 - our own words
        wait_until(lambda: self.one(sql, **job), 60, f"a job of {job} runs", every=0.01)

    def close(self) -> None:
        """Stop everything that runs."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.broker.stop()
        self.database.close()


def shadow_bundle(folder: Path) -> Path:
    """Write a tiny bundle of another version, which calls everything present."""
    manifest = tiny_manifest(write_tiny_bundle(folder)) | {"date": "2026-02-02"}
    manifest["decision"] |= {"low": 0.01, "high": 0.02, "box_score": 0.99}
    write_manifest(folder, manifest)
    return folder


@contextmanager
def running_site(folder: Path, **settings: Any) -> Iterator[Site]:
    """Yield a site whose broker runs; workers are started by the test."""
    site = Site(folder, **settings)
    try:
        site.broker.start()
        yield site
    finally:
        site.close()
