"""`analyze`: files in, answers out, with nothing running."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.errors import ANSWER_IS_NO, WRONG_USE
from worker.cli.options import Json
from worker.cli.screen import as_text, coloured, console, print_json, progress, say_error, table

if TYPE_CHECKING:
    from models.analyzer import Analyzer
    from models.bundle import Bundle
    from worker.analyze import Answer, Workbench
    from worker.analyze_output import Output
    from worker.candidates import Candidate
    from worker.settings import Settings

BOXES_SHOWN = 5


def analyze(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="DICOM, PNG or JPEG files, or folders of them.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Write marked images, and reports for DICOM files, to FOLDER."),
    ] = None,
    as_json: Json = False,
    minimum_score: Annotated[
        float | None,
        typer.Option(
            "--min-score",
            min=0.0,
            max=1.0,
            metavar="SCORE",
            help="List boxes from this score on; 0 keeps every candidate. The outcome does not depend on it.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FOLDER",
            help="The model; if not given BONEWATCH_BUNDLE, else the promoted one, else the one that ships.",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")] = None,
) -> None:
    """Analyse files without any service: a table, or JSON; exit status 1 if any file failed."""
    from worker.analyze import Workbench
    from worker.candidates import select
    from worker.settings import load_settings

    settings = load_settings(bundle=bundle, device=device)
    if out is not None and out.exists() and not out.is_dir():
        say_error(f"--out {out} is a file", "name a folder; it is made where there is none")
        raise typer.Exit(WRONG_USE)
    selection = select(paths, leave_out=out)
    model = _Model(settings)
    workbench = Workbench(model.analyzer, settings.scope(), minimum_score)
    output = None if out is None else functools.partial(model.output, out)
    answers: list[Answer] = []
    try:
        for candidate, answer in _answers(selection.candidates, workbench, visible=not as_json):
            answers.append(answer.without_pixels())
            note = output().write(answer, candidate.name) if output is not None and answer.pixels is not None else None
            if note:
                console(stderr=True).print(f"{answer.path}: {note}", markup=False, soft_wrap=True)
    except OSError as error:
        say_error(f"{out} cannot be written to: {error.strerror}", "see that the disk has room and the folder is yours")
        raise typer.Exit(ANSWER_IS_NO) from None
    if as_json:
        print_json([answer.as_json() for answer in answers])
    else:
        _show(answers, selection.skipped, out)
    if any(answer.outcome.value == "failed" for answer in answers):
        raise typer.Exit(ANSWER_IS_NO)


class _Model:
    """The bundle, loaded when the first image needs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @functools.cached_property
    def _bundle(self) -> Bundle:
        from models.manifest import SHIPPED, read_manifest

        folder = self._settings.installed_bundle() or SHIPPED
        read_manifest(folder)  # says what is wrong before torch takes its seconds to import
        from models.bundle import load_bundle

        return load_bundle(folder)

    @functools.cached_property
    def _analyzer(self) -> Analyzer:
        bundle = self._bundle
        from models.analyzer import Analyzer
        from worker.errors import EnvironmentUnfit

        try:
            return Analyzer(bundle, self._settings.device, self._settings.threads)
        except RuntimeError as error:  # torch's word for a device that is not there
            raise EnvironmentUnfit(f"the device {self._settings.device} cannot be used") from error

    def analyzer(self) -> Analyzer:
        """Return the model."""
        return self._analyzer

    @functools.cached_property
    def _outputs(self) -> dict[Path, Output]:
        return {}

    def output(self, folder: Path) -> Output:
        """Return the writer of reports and marked images for a folder."""
        from dicom_io.types import Algorithm
        from worker.analyze_output import Output
        from worker.bootstrap import MANUFACTURER

        if folder not in self._outputs:
            model = self._analyzer
            algorithm = Algorithm(model.name, model.version, MANUFACTURER, model.parameters)
            self._outputs[folder] = Output(folder, algorithm, self._bundle.manifest.decision.box_score)
        return self._outputs[folder]


def _answers(
    candidates: Sequence[Candidate], workbench: Workbench, *, visible: bool
) -> Iterator[tuple[Candidate, Answer]]:
    from worker.analyze import analyze_file

    with progress(visible=visible) as bar:
        task = bar.add_task("analysing", total=len(candidates))
        for candidate in candidates:
            yield candidate, analyze_file(candidate, workbench)
            bar.advance(task)


def _show(answers: Sequence[Answer], skipped: int, out: Path | None) -> None:
    rows = [
        (
            str(answer.path).replace("[", "\\["),
            coloured(answer.outcome.value),
            as_text(answer.frame.probability if answer.frame else None),
            _boxes(answer),
            as_text(answer.seconds),
            as_text(answer.reason),
        )
        for answer in answers
    ]
    screen = console()
    columns = ("file", "outcome", "probability", "boxes (x1 y1 x2 y2: score)", "seconds", "reason")
    screen.print(table(None, columns, rows, right=("probability", "seconds")))
    versions = sorted({answer.model_version for answer in answers if answer.model_version})
    if versions:
        screen.print(f"model {', '.join(versions)}; decision support, never a diagnosis", markup=False)
    if skipped:
        words = "file of the folders is" if skipped == 1 else "files of the folders are"
        screen.print(f"{skipped} {words} neither DICOM nor PNG or JPEG, and passed over")
    if out is not None:
        screen.print(f"reports and marked images are in {out}", markup=False, soft_wrap=True)


def _boxes(answer: Answer) -> str:
    if answer.frame is None or not answer.frame.boxes:
        return "-"
    lines = [f"{box.x1:.0f} {box.y1:.0f} {box.x2:.0f} {box.y2:.0f}: {box.score:.2f}" for box in answer.frame.boxes]
    if len(lines) > BOXES_SHOWN:
        lines[BOXES_SHOWN:] = [f"and {len(lines) - BOXES_SHOWN} more (--json)"]
    return "\n".join(lines)
