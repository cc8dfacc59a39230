"""What more worker processes add, on a model that sleeps, and what the queue itself costs a job.

    python -m tests.bench.scaling                       # as long as the model that ships, then 0.25 s
    python -m tests.bench.scaling --studies 60 --model-seconds 0.25 --lanes live

A model that sleeps leaves the processor to the rest. More processes than cores therefore scale until the rest fills the
cores: so the processor time of a job is printed beside the rate, and the load that others put on the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from models.manifest import SHIPPED, read_manifest
from tests.peers import wait_until
from tests.processes import processor_seconds
from tests.worker_processes import Site, running_site

WARM_UP = 4
SHORT_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Throughput:
    """Studies a second of so many processes, and what each costs beyond the model: wall time, and processor time."""

    processes: int
    studies_per_second: float
    overhead_milliseconds: float
    worker_milliseconds: float
    scheduler_milliseconds: float


def measure(folder: Path, lane: str, processes: int, studies: int, model_seconds: float) -> Throughput:
    """Measure one lane with so many processes, on the embedded broker and SQLite; the first studies warm up."""
    warm_up, total = WARM_UP * processes, (studies + WARM_UP) * processes
    # Swept as often as a site sweeps: the tests' half second would be the scheduler's work and not the jobs'.
    with running_site(folder, lease_seconds=60, sweep_seconds=5, analysis_processes=processes) as site:
        for number in range(total):
            site.receive(f"study-{number}")
        if lane == "archive":
            site.into_archive()
        scheduler = site.start("schedule")
        wait_until(lambda: site.one("SELECT count(*) FROM jobs") == total, 300, "all jobs are made")
        worker = site.start_program(sys.executable, "-m", "tests.bench.stand_in", str(model_seconds))
        wait_until(lambda: _done(site) >= warm_up, 600, "the warm-up")
        done, used = _done(site), [processor_seconds(each.pid) for each in (worker, scheduler)]
        wait_until(lambda: _done(site) == total, 600, "all jobs are done", every=0.2)
        used = [processor_seconds(each.pid) - before for each, before in zip((worker, scheduler), used, strict=True)]
        rows = site.rows("SELECT finished_at FROM jobs WHERE state = 'done'")
    ends = sorted(datetime.fromisoformat(str(end)) for (end,) in rows)
    measured = ends[warm_up:]
    rate = (len(measured) - 1) / (measured[-1] - measured[0]).total_seconds()
    of_workers, of_scheduler = (1000 * seconds / (total - done) for seconds in used)
    return Throughput(processes, rate, 1000 * (processes / rate - model_seconds), of_workers, of_scheduler)


def _done(site: Site) -> int:
    return int(site.one("SELECT count(*) FROM jobs WHERE state = 'done'"))


def main() -> None:
    """Measure and print."""
    shipped = read_manifest(SHIPPED).metrics["cost"]["seconds_median"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=30, help="studies a process")
    parser.add_argument("--model-seconds", type=float, nargs="+", default=[round(shipped, 2), SHORT_SECONDS])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--lanes", nargs="+", default=["live", "archive"])
    wanted = parser.parse_args()
    for seconds in wanted.model_seconds:
        for lane in wanted.lanes:
            first: Throughput | None = None
            for processes in wanted.processes:
                with tempfile.TemporaryDirectory() as folder:
                    found = measure(Path(folder), lane, processes, wanted.studies, seconds)
                first = first or found
                print(f"{lane}, model {seconds:g} s, {_words(found, first)}", flush=True)


def _words(found: Throughput, first: Throughput) -> str:
    linear = first.studies_per_second * found.processes / first.processes
    return (
        f"{found.processes} processes: {found.studies_per_second:.2f} studies a second, "
        f"{found.studies_per_second / linear:.2f} of linear; beside the model a job takes "
        f"{found.overhead_milliseconds:.0f} ms, of the processor {found.worker_milliseconds:.0f} ms in the worker "
        f"and {found.scheduler_milliseconds:.0f} ms in the scheduler (load {os.getloadavg()[0]:.1f})"
    )


if __name__ == "__main__":
    main()
