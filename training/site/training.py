"""Fit the bundle in use to a site's own images and compare both; nothing here makes a bundle current.

`worker.cli.train` is its command line; images come as files that Pillow reads, so that this knows no DICOM.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.analyzer import Analyzer
from models.bundle import SHIPPED, Bundle, load_bundle
from models.decision import Calibration, OperatingPoints
from models.manifest import Manifest
from training.bundle.card import write_card
from training.bundle.export import BundleLabel, Recipe, assemble, write_json
from training.bundle.parts import read_part
from training.data.dataset import Radiograph
from training.evaluate.calibration import RULE, box_threshold, calibrate, calibrate_boxes, choose_points
from training.evaluate.figures import measure
from training.evaluate.predictions import Prediction, predict, rescored
from training.hardware import Hardware
from training.runs import Run
from training.site.classifier import HeadConfig, Tuned, tune_classifier
from training.site.comparison import compare
from training.site.detector import config_for, speaks_of_boxes, tune_detector
from training.site.progress import Progress
from training.site.split import Split, count, split_by_patient

LONGEST_NAME = 40
LONGEST_LINE = 2000
SUFFIX = "-site"


@dataclass(frozen=True)
class SiteConfig:
    """What a person chooses: `epochs` of the classifier's head, `steps` of the detector, `date` of the new bundle."""

    date: str
    epochs: int = HeadConfig.epochs
    steps: int = 400
    seed: int = 1
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class SitePlaces:
    """`bundle` is the folder of the bundle in use (None: the one that ships), `out` an empty or missing folder."""

    bundle: Path | None
    out: Path


def adapt(radiographs: Sequence[Radiograph], places: SitePlaces, config: SiteConfig) -> dict[str, Any]:
    """Make a new bundle for a site, and say whether it is better there.

    1. Split by patient into train, tune and held-back parts; `split.csv` says which image is where.
    2. Fit the classifier's head and the detector on train; each is taken only if it is better on tune.
    3. Calibrate and choose the operating points on tune.
    4. Measure the old and the new bundle on the held-back part.
    5. Write `bundle/`, `comparison.json` and `run.json` into `out`.

    An interrupted run goes on where it was when it is called with the same again (`training.site.progress`).

    Raises
    ------
    training.site.labels.SiteDataError
        Too few patients, or `out` holds an interrupted run of something else.
    models.types.BundleError
        The bundle in use cannot be loaded.
    """
    split = split_by_patient(radiographs, config.seed)
    bundle = load_bundle(places.bundle)
    choices = {"epochs": config.epochs, "steps": config.steps, "seed": config.seed}
    progress = Progress.begin(places.out, bundle.version, split, choices)
    _write_split(split, places.out / "split.csv")
    run = Run(places.out, {**asdict(config), "counts": split.counts()})
    tuned = tune(bundle, split, config, progress)
    recipe = recipe_of(bundle, places.bundle or SHIPPED, tuned, split, config.date)
    new, held_back = build(recipe, split, bundle, config, places.out / "bundle")
    old = predict(Analyzer(bundle, config.device), split.held_back)
    comparison = {
        "kind": "site",
        "counts": split.counts(),
        "tuned": {"classifier_auc": tuned[0].as_json(), "detector_map50": tuned[1].as_json()},
        "held_back": compare(old, held_back, (bundle.manifest, new)),
    }
    (places.out / "comparison.json").write_text(json.dumps(comparison, indent=1) + "\n")
    run.finish(**comparison)
    progress.end()
    return comparison


def tune(bundle: Bundle, split: Split, config: SiteConfig, progress: Progress) -> tuple[Tuned, Tuned]:
    """Tune classifier and detector, each from where an interrupted run has left it."""
    on = Hardware.find(config.device)
    head = HeadConfig(epochs=config.epochs, seed=config.seed)
    classifier = tune_classifier(bundle, split, head, on, progress)
    return classifier, tune_detector(bundle, split, config_for(bundle, config.steps, config.seed), on, progress)


def build(
    recipe: Recipe, split: Split, old: Bundle, config: SiteConfig, folder: Path
) -> tuple[Manifest, list[Prediction]]:
    """Write the new bundle, whole or not at all; return its manifest and its predictions of the held-back part."""
    building = folder.with_name(folder.name + ".part")
    shutil.rmtree(building, ignore_errors=True)
    content = assemble(recipe, building)
    predictions = predict(Analyzer(load_bundle(building), config.device), [*split.tune, *split.held_back])
    held_back = predictions[len(split.tune) :]
    complete(content, predictions[: len(split.tune)], held_back, old.manifest, building)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    return load_bundle(folder).manifest, held_back


def recipe_of(bundle: Bundle, folder: Path, tuned: tuple[Tuned, Tuned], split: Split, date: str) -> Recipe:
    """Say what the new bundle is made of: the old one's parts, with the weights of those that were tuned."""
    manifest = bundle.manifest
    classifier = replace(read_part(folder, "classifier"), network=dict(tuned[0].network.state_dict()))
    detector = replace(read_part(folder, "detector"), network=dict(tuned[1].network.state_dict()))
    label = BundleLabel(
        name=manifest.name if manifest.name.endswith(SUFFIX) else manifest.name[: LONGEST_NAME - len(SUFFIX)] + SUFFIX,
        date=date,
        training_data=_provenance(manifest.version, manifest.training_data, split),
        licences=tuple(entry.model_dump() for entry in manifest.licences),
        intended_use=manifest.intended_use,
    )
    # Another head gives logits of another scale, to which the old one's limit means nothing: ask about every image.
    from_logit = None if tuned[0].changed else manifest.detector_from_logit
    views = tuple(view.build() for view in manifest.detector_views)
    return Recipe(classifier, detector, label, views, from_logit)


def _provenance(version: str, before: str, split: Split) -> str:
    seen = count(split.train)
    added = (
        f"Then fitted to a site's own images (not published): {seen['images']} of {seen['patients']} patients, "
        f"{seen['fractured']} fractured, {seen['boxes']} boxes, from bundle {version}; calibrated on {len(split.tune)} "
        f"others and measured on {len(split.held_back)} that were held back"
    )
    return f"{before[: LONGEST_LINE - len(added) - 2].rstrip('.')}. {added}"


def complete(
    content: dict[str, Any],
    tune: Sequence[Prediction],
    held_back: Sequence[Prediction],
    old: Manifest,
    folder: Path,
) -> None:
    """Calibrate and choose the points on tune, measure on the held-back part; write manifest and card."""
    calibration, points = calibrate_on(tune, old)
    content["calibration"] = asdict(calibration)
    kept = f"{RULE}; here no boxes were drawn, and box_score and the boxes' calibration are those of {old.version}"
    rule = RULE if _drawn(tune) else kept
    content["decision"] = {**asdict(points), "rule": f"{rule}. The held-out images are the site's tune part"}
    figures = measure(held_back, calibration, points)
    content["metrics"] = {
        "split": "the site's held-back part",
        "chosen_on": "the site's tune part",
        "whole_files": figures,
    }
    write_json(folder / "bundle.json", content)
    write_card(load_bundle(folder).manifest, folder / "README.md")


def calibrate_on(tune: Sequence[Prediction], old: Manifest) -> tuple[Calibration, OperatingPoints]:
    """Calibrate the probability and the boxes' scores and choose the points; `box_score` is one of calibrated scores.

    A fracture that nobody drew says nothing of boxes. Without any drawn box nobody can say which of the detector's are
    false: the boxes' calibration and `box_score` are then those of the old bundle.
    """
    fitted = calibrate(tune)
    if not _drawn(tune):
        calibration = replace(fitted, boxes=old.calibration.build().boxes)
        return calibration, replace(choose_points(tune, calibration), box_score=old.decision.box_score)
    speaking = [item for item in tune if speaks_of_boxes(item.radiograph)]
    calibration = replace(fitted, boxes=calibrate_boxes(speaking))
    score = box_threshold([rescored(item, calibration) for item in speaking])
    return calibration, replace(choose_points(tune, calibration), box_score=score)


def _drawn(predictions: Sequence[Prediction]) -> bool:
    return any(item.radiograph.boxes_xyxy for item in predictions)


def _write_split(split: Split, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "part"])
        table.writerows([item.name, item.split] for part in (split.train, split.tune, split.held_back) for item in part)
