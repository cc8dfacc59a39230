"""How long a live study waits for its report, with and without a backlog of archive studies.

python -m tests.bench.lanes --archive 500 --live 8 --model-seconds 0.25
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.peers import wait_until
from tests.worker_processes import Site, running_site


@dataclass(frozen=True, slots=True)
class LiveLatency:
    """Seconds from a study's last image to its report, idle and with a backlog that was still there at the end."""

    idle: list[float]
    loaded: list[float]
    archive_left: int

    def lines(self) -> list[str]:
        """Return what was measured, in words."""
        delay = statistics.median(self.loaded) - statistics.median(self.idle)
        return [
            _line("idle", self.idle),
            _line("with the backlog", self.loaded),
            f"a live study waits {delay:.2f} s longer (median); {self.archive_left} archive studies still waited",
        ]


def measure(folder: Path, archive: int, live: int, model_seconds: float) -> LiveLatency:
    """Measure on real processes: embedded broker, SQLite, scheduler, one worker whose model sleeps."""
    with running_site(folder, lease_seconds=60) as site:
        site.start("schedule")
        site.start_program(sys.executable, "-m", "tests.bench.stand_in", str(model_seconds))
        _latency(site, "warm-up")
        idle = [_latency(site, f"idle-{number}") for number in range(live)]
        for number in range(archive):
            site.receive(f"archive-{number}")
            site.into_archive()
        wait_until(lambda: site.one("SELECT count(*) FROM jobs WHERE lane = 'archive'") == archive, 300, "a backlog")
        wait_until(lambda: _archive(site, "running") > 0, 120, "the backlog is worked on")
        loaded = [_latency(site, f"live-{number}") for number in range(live)]
        return LiveLatency(idle, loaded, _archive(site, "queued"))


def _latency(site: Site, name: str) -> float:
    site.receive(name)
    uid = site.one("SELECT max(id) FROM studies")
    built = "SELECT r.built_at FROM reports r JOIN jobs j ON j.id = r.job_id WHERE j.study_id = :study"
    wait_until(lambda: site.rows(built, study=uid), 300, f"the report of {name}")
    ((last,),) = site.rows("SELECT last_instance_at FROM studies WHERE id = :study", study=uid)
    return (_moment(site.one(built, study=uid)) - _moment(last)).total_seconds()


def _moment(value: str | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _archive(site: Site, state: str) -> int:
    return int(site.one("SELECT count(*) FROM jobs WHERE lane = 'archive' AND state = :state", state=state))


def _line(what: str, seconds: list[float]) -> str:
    return f"{what}: median {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s of {len(seconds)} live studies"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=int, default=500)
    parser.add_argument("--live", type=int, default=8)
    parser.add_argument("--model-seconds", type=float, default=0.25)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for line in measure(Path(folder), arguments.archive, arguments.live, arguments.model_seconds).lines():
            print(line)


if __name__ == "__main__":
    main()
