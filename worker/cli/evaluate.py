"""`evaluate`: how good a model is on a labelled set of files, with nothing running."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.errors import ANSWER_IS_NO, NOT_USABLE, WRONG_USE
from worker.cli.options import Json
from worker.cli.screen import console, print_json, progress, say_error, table

if TYPE_CHECKING:
    from worker.files.evaluate import Evaluation
    from worker.files.labels import Matching
    from worker.settings.settings import Settings

TRAINING_EXTRA = ("matplotlib", "sklearn", "tqdm")
SHOWN = 5
LEFT_OUT = {
    "failed": "failed, and counted as neither right nor wrong",
    "out_of_scope": "out of scope, and not measured",
    "labels_without_file": "labels without a file",
    "files_without_label": "files without a label, and not analysed",
    "boxes_without_file": "boxed images without a file",
    "boxes_outside_their_image": "images with boxes that leave them: drawn on another size?",
    "boxes_taken_as_drawn_on_the_upright_picture": "pictures turned by EXIF; boxes taken as of the upright one",
    "multi_frame_images_left_out_of_box_figures": "fractured multi-frame images, left out of the figures of boxes",
}


def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="DICOM files or pictures (JPEG, PNG, TIFF, WebP), or folders of them."),
    ],
    truth: Annotated[
        Path,
        typer.Option("--truth", metavar="CSV", help="Labels: file_name or sop_instance_uid, and fractured (0, 1)."),
    ],
    boxes: Annotated[
        Path | None,
        typer.Option("--boxes", metavar="JSON", help="Boxes in COCO form, in pixels of the upright images."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Only labels with this word in their column split.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Write result.json and plots to FOLDER.")
    ] = None,
    as_json: Json = False,
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
    """Measure a model on labelled files; exit status 1 if any labelled file could not be measured."""
    _require_training()
    from worker.settings.settings import load_settings

    settings = load_settings(bundle=bundle, device=device)
    if out is not None and out.exists() and not out.is_dir():
        say_error(f"--out {out} is a file", "name a folder; it is made where there is none")
        raise typer.Exit(WRONG_USE)
    matching = _match(paths, truth, boxes, split, out)
    evaluation = _evaluation(settings, matching)
    with progress(visible=not as_json) as bar:
        task = bar.add_task("measuring", total=len(matching.matched))
        for _ in evaluation.run():
            bar.advance(task)
    result = evaluation.result()
    if out is not None:
        _write(result, out)
    if as_json:
        print_json(result)
    else:
        _show(result, out)
    if not evaluation.is_whole:
        raise typer.Exit(ANSWER_IS_NO)


def _require_training() -> None:
    missing = [name for name in TRAINING_EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        say_error(
            f"`bonewatch evaluate` needs packages that are not installed: {', '.join(missing)}",
            "install bonewatch with its extra `training`: pip install 'bonewatch[training]'",
        )
        raise typer.Exit(NOT_USABLE)


def _match(paths: list[Path], truth: Path, boxes: Path | None, split: str | None, out: Path | None) -> Matching:
    from training.site.labels import SiteDataError, read_boxes
    from worker.files.candidates import select
    from worker.files.labels import match, read_truth

    try:
        truths, boxed = read_truth(truth), read_boxes(boxes) if boxes is not None else []
        matching = match(select(paths, leave_out=out).candidates, truths, boxed, split)
    except SiteDataError as error:
        say_error(str(error), "docs/commands.md describes the tables")
        raise typer.Exit(WRONG_USE) from None
    except OSError as error:
        say_error(f"{error.filename} cannot be read: {error.strerror}")
        raise typer.Exit(WRONG_USE) from None
    if not matching.matched:
        say_error(
            f"none of {len(matching.labels_without_file)} labels fits a file",
            "file_name must be a name, or a path below PATH; sop_instance_uid that of a DICOM file",
        )
        raise typer.Exit(WRONG_USE)
    return matching


def _evaluation(settings: Settings, matching: Matching) -> Evaluation:
    from models.manifest import SHIPPED, read_manifest

    folder = settings.installed_bundle() or SHIPPED
    manifest = read_manifest(folder)  # says what is wrong before torch takes its seconds to import
    from models.analyzer import Analyzer
    from models.bundle import load_bundle
    from worker.errors import EnvironmentUnfit
    from worker.files.evaluate import Evaluation

    try:
        analyzer = Analyzer(load_bundle(folder), settings.device, settings.threads)
    except RuntimeError as error:  # torch's word for a device that is not there
        raise EnvironmentUnfit(f"the device {settings.device} cannot be used") from error
    return Evaluation(matching, analyzer, manifest, settings.scope())


def _write(result: dict[str, Any], out: Path) -> None:
    import json

    from training.evaluate.plots import write_plots

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        if result["figures"] is not None:
            write_plots(result["figures"], out)
    except OSError as error:
        say_error(f"{out} cannot be written to: {error.strerror}", "see that the disk has room and the folder is yours")
        raise typer.Exit(ANSWER_IS_NO) from None


def _show(result: dict[str, Any], out: Path | None) -> None:
    screen = console()
    if result["figures"] is not None:
        _show_figures(result["figures"], result["cost"])
        screen.print(f"model {result['bundle']}; decision support, never a diagnosis", markup=False)
    for name, words in LEFT_OUT.items():
        entries = result["not_measured"][name]
        if not entries:
            continue
        screen.print(f"{len(entries)} {words}:", markup=False, soft_wrap=True)
        for entry in entries[:SHOWN]:
            line = f"{entry['path']}: {entry['reason']}" if isinstance(entry, dict) else entry
            screen.print(f"    {line}", markup=False, soft_wrap=True)
        if len(entries) > SHOWN:
            screen.print(f"    and {len(entries) - SHOWN} more (--json, --out)")
    if out is not None:
        screen.print(f"result.json and plots are in {out}", markup=False, soft_wrap=True)


def _show_figures(figures: dict[str, Any], cost: dict[str, Any]) -> None:
    from training.evaluate.tables import GROUP_HEAD, GROUPS, box_rows, cost_rows, decision_rows, group_rows, image_rows

    screen = console()
    rows = [*image_rows(figures), *box_rows(figures["boxes"]), *cost_rows(cost)]
    screen.print(table(None, ("figure", "value (95 % interval)"), rows))
    for key, words in GROUPS:
        if len(figures[key]) > 1:
            screen.print(table(None, (words, *GROUP_HEAD), group_rows(figures[key])))
    screen.print(table(None, *decision_rows(figures)))
    if figures["auc"] is None:
        screen.print("all images are of one class: there is no AUC, and only one of sensitivity and specificity")
    known = figures["patients"]
    screen.print("intervals of areas are by image" if known is None else f"intervals of areas are by patient: {known}")
