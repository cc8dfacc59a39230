"""What more worker processes add, on a model that sleeps, and what the queue itself costs a job.

python -m tests.bench.scaling --studies 60 --model-seconds 0.25
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.peers import wait_until
from tests.worker_processes import running_site

WARM_UP = 4


@dataclass(frozen=True, slots=True)
class Throughput:
    """Studies a second of so many processes, and what each costs beyond the model."""

    processes: int
    studies_per_second: float
    overhead_milliseconds: float


def measure(folder: Path, lane: str, processes: int, studies: int, model_seconds: float) -> Throughput:
    """Measure one lane with so many processes, on the embedded broker and SQLite; the first studies warm up."""
    total = (studies + WARM_UP) * processes
    with running_site(folder, lease_seconds=60, analysis_processes=processes) as site:
        for number in range(total):
            site.receive(f"study-{number}")
        if lane == "archive":
            site.into_archive()
        site.start("schedule")
        wait_until(lambda: site.one("SELECT count(*) FROM jobs") == total, 300, "all jobs are made")
        site.start_program(sys.executable, "-m", "tests.bench.stand_in", str(model_seconds))
        site.wait_for_jobs(total, seconds=600)
        rows = site.rows("SELECT finished_at FROM jobs WHERE state = 'done'")
    ends = sorted(datetime.fromisoformat(str(end)) for (end,) in rows)
    measured = ends[WARM_UP * processes :]
    seconds = (measured[-1] - measured[0]).total_seconds()
    rate = (len(measured) - 1) / seconds
    return Throughput(processes, rate, 1000 * (processes / rate - model_seconds))


def main() -> None:
    """Measure both lanes and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=60, help="studies a process")
    parser.add_argument("--model-seconds", type=float, default=0.25)
    arguments = parser.parse_args()
    for lane in ("live", "archive"):
        one = 0.0
        for processes in (1, 2, 4):
            with tempfile.TemporaryDirectory() as folder:
                found = measure(Path(folder), lane, processes, arguments.studies, arguments.model_seconds)
            one = one or found.studies_per_second
            print(
                f"{lane}, {processes} processes: {found.studies_per_second:.2f} studies a second, "
                f"{found.studies_per_second / (one * processes):.2f} of linear, "
                f"{found.overhead_milliseconds:.0f} ms a job beside the model",
                flush=True,
            )


if __name__ == "__main__":
    main()
