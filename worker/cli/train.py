"""`train`: a site's own images. `check` reads, `run` makes a bundle and compares, `promote` alone makes one current."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.errors import ANSWER_IS_NO, NOT_USABLE, WRONG_USE
from worker.cli.help import HelpGroup
from worker.cli.options import Home, Json, settings_of
from worker.cli.screen import console, print_json, progress, say_error, table

if TYPE_CHECKING:
    from training.site.data import Leniency, Survey
    from worker.files.train import Tables
    from worker.settings.settings import Settings

NAMES_SHOWN = 10
LEAST_TO_TELL = 30

app = typer.Typer(cls=HelpGroup, help="Fit the model to a site's own images.", no_args_is_help=True)

Images = Annotated[
    Path, typer.Argument(metavar="PATH", help="A folder of DICOM files or pictures (JPEG, PNG, TIFF, WebP).")
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="CSV",
        exists=True,
        dir_okay=False,
        help="Columns file_name or sop_instance_uid, fractured; perhaps patient_id.",
    ),
]
BoxesFile = Annotated[
    Path | None,
    typer.Option("--boxes", metavar="JSON", exists=True, dir_okay=False, help="Boxes around fractures, in COCO form."),
]
SkipUnreadable = Annotated[bool, typer.Option("--skip-unreadable", help="Go on without files that cannot be read.")]
SkipUnmatched = Annotated[
    bool, typer.Option("--skip-unmatched", help="Go on without files that have no label and labels that have no file.")
]
ClipBoxes = Annotated[bool, typer.Option("--clip-boxes", help="Cut boxes off at the border of their image.")]


@app.callback()
def _train() -> None:
    """Fit the model to a site's own images."""


@app.command("check")
def check(
    path: Images,
    labels: LabelsFile = None,
    boxes: BoxesFile = None,
    skip_unreadable: SkipUnreadable = False,
    skip_unmatched: SkipUnmatched = False,
    clip_boxes: ClipBoxes = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the split that is shown.")] = 1,
    as_json: Json = False,
) -> None:
    """Read images, labels and boxes and say what there is and what is wrong; nothing is trained or written."""
    with _data_errors():
        from training.site.data import Leniency
        from worker.files.train import Tables

        leniency = Leniency(skip_unreadable, skip_unmatched, clip_boxes)
        found = _survey(path, Tables(labels, boxes), leniency, settings_of(None), work=None, leave_out=None)
        counts, obstacle = _counts(found, seed)
    if as_json:
        print_json({**_as_json(found), "counts": counts, "split": obstacle or "possible"})
    else:
        _show(found)
        _show_counts(counts, obstacle)
    if found.problems or obstacle:
        raise typer.Exit(ANSWER_IS_NO)


@app.command("run")
def run(
    path: Images,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where bundle and comparison go; new or empty, or that of a run that was interrupted, which goes on.",
            file_okay=False,
        ),
    ],
    labels: LabelsFile = None,
    boxes: BoxesFile = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FOLDER", help="The bundle to start from; the one in use if not given."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option("--work", metavar="FOLDER", help="Keep the decoded images here; else they are removed again."),
    ] = None,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, metavar="N", help="At most so many epochs of the classifier.")
    ] = 30,
    steps: Annotated[int, typer.Option("--steps", min=1, metavar="N", help="Steps of the detector.")] = 400,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="The same seed gives the same split and the same steps.")
    ] = 1,
    device: Annotated[str | None, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")] = None,
    home: Home = None,
    skip_unreadable: SkipUnreadable = False,
    skip_unmatched: SkipUnmatched = False,
    clip_boxes: ClipBoxes = False,
    as_json: Json = False,
) -> None:
    """Fit the bundle in use to these images and compare both on images held back; nothing is made current."""
    settings = settings_of(home, bundle=bundle, device=device)
    if out.exists() and any(out.iterdir()) and not _is_unfinished(out):
        say_error(f"--out {out} is not empty", "name a new folder: an earlier run's bundle is never overwritten")
        raise typer.Exit(WRONG_USE)
    if work is not None and work.resolve().is_relative_to(path.resolve()):
        say_error(f"--work {work} lies among the images", "name a folder outside of them")
        raise typer.Exit(WRONG_USE)
    with _data_errors(), _work_folder(work, out) as decoded:
        from training.site.data import Leniency
        from worker.files.train import Tables

        leniency = Leniency(skip_unreadable, skip_unmatched, clip_boxes)
        found = _survey(path, Tables(labels, boxes), leniency, settings, work=decoded, leave_out=out)
        _show(found, stderr=as_json)
        if found.problems:
            raise typer.Exit(ANSWER_IS_NO)
        comparison = _adapt(found, settings, out, {"epochs": epochs, "steps": steps, "seed": seed})
    if as_json:
        print_json(comparison)
    else:
        _show_comparison(comparison, out)
    if comparison["held_back"]["verdict"] == "worse":
        raise typer.Exit(ANSWER_IS_NO)


@app.command("promote")
def promote(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE_FOLDER]", help="The bundle to make current.")
    ] = None,
    shipped: Annotated[bool, typer.Option("--shipped", help="Go back to the bundle that ships.")] = False,
    home: Home = None,
) -> None:
    """Make a bundle the one that is used from now on; the same as `models promote`."""
    from worker.cli.models import make_current

    if (folder is None) is not shipped:
        say_error("name a bundle's folder, or say --shipped", None)
        raise typer.Exit(WRONG_USE)
    make_current(settings_of(home), folder)


def _survey(
    path: Path, tables: Tables, leniency: Leniency, settings: Settings, *, work: Path | None, leave_out: Path | None
) -> Survey:
    from models.analyzer import check_pixels
    from worker.files.train import ReadingContext, find_files, survey_site

    if tables.labels is None and tables.boxes is None:
        say_error("there is nothing to learn from", "give --labels, --boxes or both")
        raise typer.Exit(WRONG_USE)
    candidates = find_files(path, leave_out).candidates
    context = ReadingContext(settings.scope(), check_pixels, work)
    with progress() as bar:
        task = bar.add_task("reading", total=len(candidates))
        return survey_site(candidates, tables, leniency, context, lambda: bar.advance(task))


def _is_unfinished(out: Path) -> bool:
    with _data_errors():
        from training.site.progress import is_unfinished

        return is_unfinished(out)


def _adapt(found: Survey, settings: Settings, out: Path, chosen: dict[str, int]) -> dict[str, Any]:
    from datetime import datetime

    from training.site.training import SiteConfig, SitePlaces, adapt

    date = datetime.now().astimezone().date().isoformat()
    config = SiteConfig(date=date, device=settings.device, **chosen)
    return adapt(found.radiographs, SitePlaces(settings.installed_bundle(), out), config)


@contextlib.contextmanager
def _work_folder(work: Path | None, out: Path) -> Iterator[Path]:
    """Give a folder for decoded images; patients' images stay behind only where somebody asked for it."""
    import shutil

    from training.site.progress import DECODED

    folder = work or out / DECODED
    try:
        yield folder
    finally:
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _data_errors() -> Iterator[None]:
    """Put what is wrong with data or installation into words."""
    try:
        from training.site.labels import SiteDataError

        try:
            yield
        except SiteDataError as error:
            say_error(str(error), "correct the data; docs/training.md says what is wanted")
            raise typer.Exit(WRONG_USE) from None
        except OSError as error:
            say_error(f"a table cannot be read, or a folder not be written to: {error}")
            raise typer.Exit(NOT_USABLE) from None
    except ModuleNotFoundError as error:
        if error.name not in {"sklearn", "tqdm", "matplotlib"}:
            raise
        say_error(f"training needs the package {error.name}", "install bonewatch with its extra: bonewatch[training]")
        raise typer.Exit(NOT_USABLE) from None


def _counts(found: Survey, seed: int) -> tuple[dict[str, dict[str, int]], str | None]:
    """Count all images and those of each part; the obstacle says why there can be no parts."""
    from training.site.labels import SiteDataError
    from training.site.split import count, split_by_patient

    counts = {"all": count(found.radiographs)}
    try:
        return counts | split_by_patient(found.radiographs, seed).counts(), None
    except SiteDataError as error:
        return counts, str(error)


def _as_json(found: Survey) -> dict[str, Any]:
    from dataclasses import asdict

    return {kind: [asdict(each) for each in getattr(found, kind)] for kind in ("problems", "notes")}


def _show(found: Survey, *, stderr: bool = False) -> None:
    from rich.markup import escape

    from worker.files.train import words_of

    for findings, style in ((found.problems, "bold red"), (found.notes, "yellow")):
        screen = console(stderr=stderr or findings is found.problems)
        for line in words_of(findings, NAMES_SHOWN):
            screen.print(escape(line) if line.startswith(" ") else f"[{style}]•[/] {escape(line)}", soft_wrap=True)


def _show_counts(counts: dict[str, dict[str, int]], obstacle: str | None) -> None:
    columns = ("part", "images", "fractured", "boxes", "patients")
    rows = [(part, *(str(figures[name]) for name in columns[1:])) for part, figures in counts.items()]
    console().print(table(None, columns, rows, right=columns[1:]))
    if obstacle:
        say_error(obstacle)
    elif counts["held_back"]["fractured"] < LEAST_TO_TELL:
        console().print(
            f"fewer than {LEAST_TO_TELL} fractured images held back: a comparison will hardly tell anything"
        )


def _show_comparison(comparison: dict[str, Any], out: Path) -> None:
    from training.site.comparison import rows

    _show_counts(comparison["counts"], None)
    screen = console()
    for name, words in (("classifier_auc", "classifier, AUC on tune"), ("detector_map50", "detector, mAP50 on tune")):
        screen.print(f"{words}: {_tuned(comparison['tuned'][name])}")
    held_back = comparison["held_back"]
    old, new = held_back["old"]["version"], held_back["new"]["version"]
    screen.print(table("On the held-back part", ("figure", f"in use: {old}", f"new: {new}"), rows(held_back)))
    low, high = held_back["auc_difference_95"]
    screen.print(
        f"difference of the AUC {held_back['auc_difference']:+.3f} ({low:+.3f} to {high:+.3f}): {held_back['verdict']}"
    )
    screen.print(
        f"nothing has changed yet; to use the new one: bonewatch train promote {out / 'bundle'}", soft_wrap=True
    )


def _tuned(figures: dict[str, Any]) -> str:
    if figures["before"] is None:
        return "not tuned, there are no boxes"
    words = f"{figures['before']:.3f} before, {figures['after']:.3f} after"
    return words if figures["changed"] else f"{words}; nothing was better, the old weights stay"
