"""`analyze`: files in, answers out, with nothing running."""

from __future__ import annotations

import functools
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from worker.cli.errors import ANSWER_IS_NO, WRONG_USE
from worker.cli.results import OutcomeChoice
from worker.cli.screen import as_text, coloured, console, progress, say_error

if TYPE_CHECKING:
    from dicom_io.header.scope import ScopeRule
    from models.analyzer import Analyzer
    from models.bundle import Bundle
    from worker.files.candidates import Candidate
    from worker.files.journal import Journal
    from worker.files.output import Output
    from worker.settings.settings import Settings

BOXES_SHOWN = 5


class AnalyzeFormat(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def analyze(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="DICOM files, pictures (JPEG, PNG, TIFF, WebP), ZIP files, or folders of them."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Write marked images, reports for DICOM files and results.jsonl to FOLDER."
        ),
    ] = None,
    output: Annotated[
        AnalyzeFormat, typer.Option("--format", help="table, one JSON list, or jsonl: one JSON object a line.")
    ] = AnalyzeFormat.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with an interrupted run: keep the answers that --out FOLDER holds."),
    ] = False,
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
    """Analyse files without any service; each answer is printed as it comes. Exit status 1 if any file failed."""
    from worker.files.candidates import select
    from worker.settings.settings import load_settings

    settings = load_settings(bundle=bundle, device=device)
    if out is not None and out.exists() and not out.is_dir():
        say_error(f"--out {out} is a file", "name a folder; it is made where there is none")
        raise typer.Exit(WRONG_USE)
    if resume and out is None:
        say_error("--resume needs --out", "name the folder of the run that was interrupted")
        raise typer.Exit(WRONG_USE)
    selection = select(paths, leave_out=out, open_zip=True)
    format_ = AnalyzeFormat.JSON if as_json else output
    work = _Work(_Model(settings), settings.scope(), minimum_score, out, resume=resume)
    with _printer(format_) as printer:
        try:
            for answer, note in work.answers(selection.candidates, printer):
                printer.show(answer)
                if note:
                    console(stderr=True).print(f"{answer['path']}: {note}", markup=False, soft_wrap=True)
        except OSError as error:
            say_error(
                f"{out} cannot be written to: {error.strerror}", "see that the disk has room and the folder is yours"
            )
            raise typer.Exit(ANSWER_IS_NO) from None
    printer.close(selection.skipped, out)
    if printer.counts["failed"]:
        raise typer.Exit(ANSWER_IS_NO)


class _Model:
    """The bundle, loaded when the first image needs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @functools.cached_property
    def version(self) -> str:
        """The bundle's version, read without torch."""
        from models.manifest import read_manifest

        return read_manifest(self._folder).version

    @property
    def _folder(self) -> Path:
        from models.manifest import SHIPPED

        return self._settings.installed_bundle() or SHIPPED

    @functools.cached_property
    def _bundle(self) -> Bundle:
        from models.manifest import read_manifest

        read_manifest(self._folder)  # says what is wrong before torch takes its seconds to import
        from models.bundle import load_bundle

        return load_bundle(self._folder)

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
        from worker.files.output import Output
        from worker.queue.bootstrap import MANUFACTURER

        if folder not in self._outputs:
            model = self._analyzer
            algorithm = Algorithm(model.name, model.version, MANUFACTURER, model.parameters)
            self._outputs[folder] = Output(folder, algorithm, self._bundle.manifest.decision.box_score)
        return self._outputs[folder]


class _Work:
    """Files to answers, one after the other, with what is written beside."""

    def __init__(
        self, model: _Model, rule: ScopeRule, minimum_score: float | None, out: Path | None, *, resume: bool
    ) -> None:
        self._model, self._rule, self._minimum_score, self._out, self._resume = model, rule, minimum_score, out, resume

    def answers(
        self, candidates: Sequence[Candidate], printer: _Printer
    ) -> Iterator[tuple[dict[str, Any], str | None]]:
        """Yield each file's answer, as JSON has it, and what is missing beside it.

        Raises
        ------
        OSError
            When the folder cannot be written to.
        """
        from worker.files.candidates import output_names

        with self._journal() as journal, progress(screen=printer.screen) as bar:
            task = bar.add_task("analysing", total=len(candidates))
            for candidate, name in zip(candidates, output_names(candidates), strict=True):
                answer = None if journal is None else journal.earlier(candidate)
                note = None
                if answer is None:
                    answer, note = self._analyse(candidate, name)
                    if journal is not None:
                        journal.add(candidate, answer, self._minimum_score)
                yield answer, note
                bar.advance(task)

    def _journal(self) -> AbstractContextManager[Journal | None]:
        from worker.files.journal import Conditions, Journal

        if self._out is None:
            return nullcontext()
        return closing(
            Journal(self._out, Conditions(self._model.version, self._minimum_score) if self._resume else None)
        )

    def _analyse(self, candidate: Candidate, name: Path) -> tuple[dict[str, Any], str | None]:
        from dicom_io.types import Outcome
        from worker.errors import ZipMemberUnreadable
        from worker.files.analyze import AnalysisContext, FileResult, analyze_file
        from worker.files.output import COMPANIONS

        wanted = None if self._out is None else COMPANIONS
        context = AnalysisContext(self._model.analyzer, self._rule, self._minimum_score, wanted)
        note = None
        try:
            with candidate.readable() as path:
                answer = analyze_file(replace(candidate, path=path), context)
                if self._out is not None and answer.pixels is not None:
                    note = self._model.output(self._out).write(answer, name)
        except ZipMemberUnreadable as error:
            answer = FileResult(candidate.path, Outcome.FAILED, str(error))
        return replace(answer, path=candidate.path).as_json(), note


class _Printer:
    """Prints answers as they come."""

    def __init__(self) -> None:
        self.screen = console()
        self.counts: Counter[str] = Counter()
        self.versions: set[str] = set()

    def show(self, answer: dict[str, Any]) -> None:
        """Print one answer."""
        self.counts[answer["outcome"]] += 1
        if version := answer.get("model_version"):
            self.versions.add(version)
        self.print(answer)

    def print(self, answer: dict[str, Any]) -> None:
        """Print a file's outcome, probability and name, and below it what there is to say."""
        probability = as_text(answer.get("probability"))
        outcome = coloured(answer["outcome"]) + " " * (13 - len(answer["outcome"]))
        self.screen.print(f"{outcome}{probability:>5}  {as_text(answer['path'])}", soft_wrap=True)
        for line in _below(answer):
            self.screen.print(f"{'':20}{escape(line)}", soft_wrap=True)

    def close(self, skipped: int, out: Path | None) -> None:
        """Print what holds for all."""
        total = sum(self.counts.values())
        counts = ", ".join(
            f"{self.counts[each.value]} {each.value}" for each in OutcomeChoice if self.counts[each.value]
        )
        self.screen.print(f"{total} {'file' if total == 1 else 'files'}: {counts}", soft_wrap=True)
        if self.versions:
            versions = ", ".join(sorted(self.versions))
            self.screen.print(f"model {versions}; decision support, never a diagnosis", markup=False, soft_wrap=True)
        if skipped:
            words = "file of the folders is" if skipped == 1 else "files of the folders are"
            self.screen.print(f"{skipped} {words} neither DICOM nor pictures, and passed over")
        if out is not None:
            self.screen.print(f"reports and marked images are in {out}", markup=False, soft_wrap=True)


class _JsonPrinter(_Printer):
    """Prints one object a line: a list of them, or each on its own."""

    def __init__(self, *, as_list: bool) -> None:
        super().__init__()
        self._as_list = as_list

    def print(self, answer: dict[str, Any]) -> None:
        """Print one answer."""
        first = sum(self.counts.values()) == 1
        before = ("[\n" if first else ",\n") if self._as_list else ""
        sys.stdout.write(before + json.dumps(answer, ensure_ascii=False) + ("" if self._as_list else "\n"))
        sys.stdout.flush()

    def end(self) -> None:
        """End the list; so that an interrupted run leaves a whole one."""
        if self._as_list:
            sys.stdout.write("\n]\n" if self.counts else "[]\n")

    def close(self, skipped: int, out: Path | None) -> None:
        """Print nothing more."""


@contextmanager
def _printer(output: AnalyzeFormat) -> Iterator[_Printer]:
    if output is AnalyzeFormat.TABLE:
        yield _Printer()
        return
    printer = _JsonPrinter(as_list=output is AnalyzeFormat.JSON)
    try:
        yield printer
    finally:
        printer.end()


def _below(answer: dict[str, Any]) -> list[str]:
    """Return the lines below a file's outcome: its boxes, best first, the reason, and what was left aside."""
    boxes = answer.get("boxes", [])
    lines = [
        f"box {' '.join(f'{side:.0f}' for side in box['xyxy'])} score {box['score']:.2f}" for box in boxes[:BOXES_SHOWN]
    ]
    if len(boxes) > BOXES_SHOWN:
        lines.append(f"and {len(boxes) - BOXES_SHOWN} more boxes (--json)")
    return [*lines, *([answer["reason"]] if answer.get("reason") else []), *answer.get("warnings", [])]
