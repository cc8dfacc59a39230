"""`demo`: everything once, on this machine, with nothing left behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from worker.cli.errors import ANSWER_IS_NO, INTERRUPTED, NOT_USABLE
from worker.cli.screen import as_text, coloured, console, progress, say_error, table

if TYPE_CHECKING:
    from worker.demo.demo import Demo, DemoState
    from worker.demo.samples import SampleStudy

LINES_SHOWN = 90


def demo(
    samples: Annotated[
        Path | None,
        typer.Option(
            "--samples", metavar="FOLDER", help="Studies to push; deploy/samples of the source tree if not given."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Give up after this long.")
    ] = 180,
) -> None:
    """Show everything once: start bonewatch and a small PACS, push the sample studies, wait for committed reports.

    Nothing of yours is touched: it works in a throw-away folder. Exit status 0 only if every study was analysed and
    its report delivered and committed.
    """
    from worker.demo.demo import Demo
    from worker.demo.samples import read_samples
    from worker.errors import ChildFailed, Interrupted
    from worker.process.stopping import StopRequest

    request = StopRequest()
    request.install()
    screen = console()
    deadline = time.monotonic() + timeout
    studies = read_samples(samples)
    try:
        with Demo(studies, os.environ, lambda line: screen.print(escape(line)), request.event) as shown:
            status = _run(shown, deadline)
    except Interrupted:
        sys.stderr.write("interrupted; everything is stopped and removed\n")
        raise typer.Exit(INTERRUPTED) from None
    except ChildFailed as failure:
        say_error(str(failure))
        for line in failure.lines[-15:]:
            console(stderr=True).print(f"  | {escape(line)}", soft_wrap=True)
        raise typer.Exit(NOT_USABLE) from None
    raise typer.Exit(status)


def _run(demo: Demo, deadline: float) -> int:
    """Run a demonstration to its end and show it; return the exit status."""
    screen = console()
    started = time.monotonic()
    with screen.status("starting") as status:
        version = demo.start(lambda name: status.update(f"starting {name}"))
    screen.print(f"bonewatch and a small PACS run; model {version}", markup=False)
    state = _follow(demo, deadline)
    screen.print(_table(demo, state))
    _show_report(demo, state)
    shortcomings = demo.shortcomings(state)
    for each in shortcomings:
        screen.print(f"[bold red]{escape(each.study)}:[/] {escape(each.reason)}", soft_wrap=True)
    good = len(demo.samples) - len(shortcomings)
    screen.print(
        f"{good} of {len(demo.samples)} reports delivered and committed, in {time.monotonic() - started:.0f} s"
    )
    screen.print("decision support, never a diagnosis; every report is marked unverified")
    return ANSWER_IS_NO if shortcomings else 0


def _follow(demo: Demo, deadline: float) -> DemoState:
    """Push the studies and wait for their reports, with a bar for each step."""
    total = len(demo.samples)
    with progress() as bar:
        tasks = {name: bar.add_task(name, total=total) for name in ("pushed", "analysed", "committed")}
        for _ in demo.push():
            bar.advance(tasks["pushed"])
        console().print(
            f"{sum(len(each.files) for each in demo.samples)} images of {total} studies pushed over C-STORE"
        )
        state = demo.state()
        for state in demo.wait(deadline):
            bar.update(tasks["analysed"], completed=state.analysed)
            bar.update(tasks["committed"], completed=state.committed)
    return state


def _table(demo: Demo, state: DemoState) -> object:
    columns = ("study", "body part", "truth", "outcome", "probability", "boxes", "report", "pictures")
    rows = []
    for study in demo.samples:
        row = state.rows.get(study.study_instance_uid)
        rows.append(
            (
                escape(study.name),
                as_text(study.body_part),
                "-" if study.fractured is None else "fracture" if study.fractured else "none",
                coloured(row.outcome or row.state) if row else "[red]not received[/]",
                as_text(row.probability if row else None),
                as_text(row.findings if row else None),
                coloured(row.report_state if row else None),
                str(len(demo.pictures(study))),
            )
        )
    return table(None, columns, rows, right=("probability", "boxes", "pictures"))


def _show_report(demo: Demo, state: DemoState) -> None:
    from dicom_io.report.outline import report_outline

    study = _most_telling(demo.samples, state)
    path = None if study is None else demo.report(study)
    if study is None or path is None:
        return
    screen = console()
    screen.print(f"\n[bold]The report of {escape(study.name)}, as the PACS holds it:[/]")
    lines = report_outline(path)
    for line in lines[:LINES_SHOWN]:
        screen.print(f"  {line}", markup=False, soft_wrap=True)
    if len(lines) > LINES_SHOWN:
        screen.print(f"  ... and {len(lines) - LINES_SHOWN} lines more")
    screen.print()


def _most_telling(samples: tuple[SampleStudy, ...], state: DemoState) -> SampleStudy | None:
    """Choose the study whose report shows most: a positive one with few boxes, else any with a report."""
    rows = state.rows
    reported = [each for each in samples if each.study_instance_uid in rows]
    order = {"present": 0, "inconclusive": 1}
    return min(
        (each for each in reported if rows[each.study_instance_uid].report_sop_instance_uid),
        key=lambda each: (
            order.get(rows[each.study_instance_uid].outcome or "", 2),
            rows[each.study_instance_uid].findings or 1000,
        ),
        default=None,
    )
