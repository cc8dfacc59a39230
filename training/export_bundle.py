"""Make a bundle of trained weights: calibrate, choose operating points by rule, measure, write the card.

    python -m training.export_bundle --data DATA --weights VGG16.safetensors --classifier RUN/classifier.safetensors \
        --detector RUN/detector.safetensors --name vgg16-fracatlas --date 2026-01-31 \
        --seen "All of it was used." --out FOLDER

All choices are made on valid, by rule; nothing here touches train. The folder is written whole, then renamed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from models.analyzer import Analyzer
from models.bundle import load_bundle
from models.decision import Calibration, OperatingPoints
from models.preprocess import Preprocessing
from training.cache import PREPROCESSING, load_vgg
from training.card import write_card
from training.dataset import load
from training.evaluate import Prediction, boxes_of, predict, report
from training.metrics import match

SENSITIVITY = 0.95
SPECIFICITY = 0.95
FALSE_BOXES_AN_IMAGE = 0.15
RULE = (
    f"On valid without truncated files: low = the highest probability that keeps sensitivity >= {SENSITIVITY:.2f}; "
    f"high = the lowest that keeps specificity >= {SPECIFICITY:.2f}; "
    f"box_score = the lowest score with at most {FALSE_BOXES_AN_IMAGE:.2f} false boxes an image"
)
INTENDED_USE = (
    "Decision support in radiographs of hand, leg, hip and shoulder: points a radiologist to images that may show a "
    "fracture. Research and evaluation only; not a medical device, never a diagnosis, every answer needs a radiologist."
)
COLLECTION = (
    "FracAtlas, train block: radiographs of hand, leg, hip and shoulder, 554 fractured (740 boxes) and 2,612 normal. "
    "{seen} Operating points and calibration come from its valid block (327 whole files, 81 fractured)"
)
LICENCES = (
    {
        "work": "FracAtlas (training data)",
        "licence": "CC BY 4.0",
        "attribution": "I. Abedeen, M. A. Rahman, F. Z. Prottyasha, T. Ahmed, T. M. Chowdhury, S. Shatabda: FracAtlas: "
        "A Dataset for Fracture Classification, Localization and Segmentation of Musculoskeletal Radiographs, "
        "Scientific Data 10:521, 2023, doi 10.6084/m9.figshare.22363012; images larger than 1280 px were reduced",
    },
    {
        "work": "VGG16 ImageNet weights (starting point, changed by training)",
        "licence": "CC BY 4.0",
        "attribution": "K. Simonyan, A. Zisserman, Visual Geometry Group, University of Oxford",
    },
)


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a bundle is made of."""

    weights: Path
    classifier: Path
    detector: Path
    name: str
    date: str
    seen: str  # a sentence on the part of the train block that the networks were trained on
    preprocessing: Preprocessing = PREPROCESSING

    def classifier_entry(self) -> dict[str, Any]:
        """Name the classifier's architecture and options, which its tensors tell."""
        tensors = load_file(self.classifier)
        if "head.inner.weight" in tensors:
            return {"architecture": "vgg16_pooled", "options": {"hidden": len(tensors["head.inner.weight"])}}
        return {"architecture": "vgg16_location_map", "options": {"hidden": len(tensors["head.location.0.weight"])}}


def write_weights(ingredients: Ingredients, folder: Path) -> dict[str, dict[str, Any]]:
    """Write the three weights files in float16; returns the manifest's list of files."""
    vgg = load_vgg(ingredients.weights)
    parts: dict[str, Mapping[str, Tensor]] = {
        "trunk.safetensors": vgg.trunk.state_dict(),
        "classifier.safetensors": load_file(ingredients.classifier),
        "detector.safetensors": load_file(ingredients.detector),
    }
    files = {}
    for name, tensors in parts.items():
        save_file({key: tensor.to(torch.float16).contiguous() for key, tensor in tensors.items()}, folder / name)
        (folder / name).chmod(0o644)  # safetensors writes for the owner alone
        content = (folder / name).read_bytes()
        files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    return files


def manifest(ingredients: Ingredients, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Write the manifest but for what valid decides, with neutral values in its place."""
    trunk = {"architecture": "vgg16", "file": "trunk.safetensors"}
    common = {"trunk": trunk, "preprocessing": asdict(ingredients.preprocessing)}
    return {
        "schema_version": 1,
        "name": ingredients.name,
        "date": ingredients.date,
        "intended_use": INTENDED_USE,
        "width": load_vgg(ingredients.weights).width,
        "classifier": {**ingredients.classifier_entry(), "file": "classifier.safetensors", **common},
        "detector": {"architecture": "faster_rcnn_vgg16_fpn", "options": {}, "file": "detector.safetensors", **common},
        "calibration": asdict(Calibration(0.0, 1.0, 0.0)),
        "decision": {**asdict(OperatingPoints(0.5, 0.5, 0.5)), "rule": RULE},
        "files": files,
        "training_data": COLLECTION.format(seen=ingredients.seen),
        "licences": LICENCES,
        "metrics": {},
    }


def calibrate(predictions: Sequence[Prediction]) -> Calibration:
    """Fit the logistic function of classifier logit and best box score (Platt's method with two inputs).

    Three numbers from some three hundred images; a network whose weight comes out negative is left out.
    """
    neutral = Calibration(0.0, 0.0, 1.0)
    scores = [neutral.probability(0.0, item.best_score) for item in predictions]
    inputs = np.array([(item.logit, np.log(s / (1 - s))) for item, s in zip(predictions, scores, strict=True)])
    truth = np.array([item.radiograph.fractured for item in predictions])
    fitted = LogisticRegression(C=1e3, max_iter=1000).fit(inputs, truth)
    weights = fitted.coef_[0]
    for left_out in np.flatnonzero(weights < 0):
        kept = [1 - int(left_out)]
        alone = LogisticRegression(C=1e3, max_iter=1000).fit(inputs[:, kept], truth)
        values = [0.0, 0.0]
        values[kept[0]] = float(alone.coef_[0][0])
        return Calibration(float(alone.intercept_[0]), values[0], values[1])
    return Calibration(float(fitted.intercept_[0]), float(weights[0]), float(weights[1]))


def choose_points(predictions: Sequence[Prediction], calibration: Calibration) -> OperatingPoints:
    """Apply RULE."""
    truth = np.array([item.radiograph.fractured for item in predictions])
    probability = np.array([calibration.probability(item.logit, item.best_score) for item in predictions])
    low = sensitive_point(probability[truth])
    high = max(low, specific_point(probability[~truth]))
    return OperatingPoints(low=low, high=high, box_score=box_threshold(predictions))


def sensitive_point(of_fractured: NDArray[np.float64]) -> float:
    """Return the highest point that at least SENSITIVITY of the fractured images reach."""
    ordered = np.sort(of_fractured)[::-1]
    return float(ordered[int(np.ceil(SENSITIVITY * len(ordered))) - 1])


def specific_point(of_normal: NDArray[np.float64]) -> float:
    """Return the lowest point that at least SPECIFICITY of the normal images stay below."""
    ordered = np.sort(of_normal)
    return float(np.nextafter(ordered[int(np.ceil(SPECIFICITY * len(ordered))) - 1], 1.0))


def box_threshold(predictions: Sequence[Prediction]) -> float:
    """Return the lowest score at which false boxes stay at or below FALSE_BOXES_AN_IMAGE."""
    false: list[float] = []
    for item in predictions:
        image = boxes_of(item, 0.0)
        false += np.sort(image.scores)[::-1][~match(image, 0.5)].tolist()
    allowed = int(FALSE_BOXES_AN_IMAGE * len(predictions))
    ordered = sorted(false, reverse=True)
    return float(np.nextafter(ordered[allowed], 1.0)) if len(ordered) > allowed else 0.05


def export(ingredients: Ingredients, data: Path, out: Path) -> dict[str, Any]:
    """Make the bundle.

    1. Write weights and a neutral manifest, and load them as any user would.
    2. Run both networks over valid.
    3. Fit the calibration, then choose the points on whole files.
    4. Measure, write manifest and card, put the folder in its place.
    """
    work = out.with_name(out.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    content = manifest(ingredients, write_weights(ingredients, work))
    write_json(work / "bundle.json", content)
    predictions = predict(Analyzer(load_bundle(work)), load(data, "valid"))
    whole = [item for item in predictions if not item.radiograph.truncated]
    calibration = calibrate(whole)
    points = choose_points(whole, calibration)
    content["calibration"] = asdict(calibration)
    content["decision"] = {**asdict(points), "rule": RULE}
    content["metrics"] = {"split": "valid", **report(predictions, calibration, points)}
    write_json(work / "bundle.json", content)
    write_card(load_bundle(work).manifest, work / "README.md")
    shutil.rmtree(out, ignore_errors=True)
    work.rename(out)
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--weights", type=Path, required=True, help="VGG16 ImageNet features (safetensors)")
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--name", default="vgg16-fracatlas")
    parser.add_argument("--date", required=True, help="year-month-day")
    parser.add_argument("--seen", required=True, help="a sentence: which part of the train block was used")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder; an old one there is replaced")
    given = parser.parse_args()
    ingredients = Ingredients(given.weights, given.classifier, given.detector, given.name, given.date, given.seen)
    content = export(ingredients, given.data, given.out)
    print(json.dumps({key: content[key] for key in ("calibration", "decision", "metrics")}, indent=1))


if __name__ == "__main__":
    main()
