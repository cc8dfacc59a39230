"""Measure a bundle on a labelled split, through the very path that analyses a patient's image.

    python -m training.evaluate --bundle FOLDER --data DATA --split valid --out RESULT.json

Images whose file ends early are measured apart: the product refuses them, and their grey band could be learnt.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.analyzer import Analyzer
from models.bundle import load_bundle
from models.decision import Calibration, OperatingPoints, decide
from models.types import Decision, ScoredBox
from training.dataset import BODY_PARTS, Radiograph, load
from training.metrics import (
    BoxesOfImage,
    auc,
    auc_interval,
    average_precision,
    free_response,
    match,
    mean_average_precision,
    wilson,
)

FALSE_RATES = (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the networks said of one image, before calibration."""

    radiograph: Radiograph
    logit: float
    boxes: tuple[ScoredBox, ...]
    seconds: float

    @property
    def best_score(self) -> float:
        """The best box's score, 0 without one."""
        return self.boxes[0].score if self.boxes else 0.0


def predict(analyzer: Analyzer, radiographs: Sequence[Radiograph]) -> list[Prediction]:
    """Run the networks over images."""
    predictions = []
    for radiograph in tqdm(radiographs, unit="image", mininterval=5):
        pixels = radiograph.pixels()
        started = time.perf_counter()
        logit, boxes = analyzer.candidates(pixels)
        predictions.append(Prediction(radiograph, logit, boxes, time.perf_counter() - started))
    return predictions


def measure(predictions: Sequence[Prediction], calibration: Calibration, points: OperatingPoints) -> dict[str, Any]:
    """Compute every figure of the model card."""
    truth = np.array([item.radiograph.fractured for item in predictions])
    probability = np.array([calibration.probability(item.logit, item.best_score) for item in predictions])
    decisions = [decide(p, item.boxes, points) for p, item in zip(probability, predictions, strict=True)]
    return {
        "images": len(predictions),
        "fractured": int(truth.sum()),
        "auc": auc(truth, probability),
        "auc_95": auc_interval(truth, probability),
        "auc_classifier_alone": auc(truth, [item.logit for item in predictions]),
        "auc_detector_alone": auc(truth, [item.best_score for item in predictions]),
        "auc_by_body_part": by_body_part(predictions, probability),
        "low": at_point(truth, probability, points.low),
        "high": at_point(truth, probability, points.high),
        "calibration_error": calibration_error(truth, probability),
        "decisions": tabulate(truth, decisions),
        "boxes": measure_boxes(predictions, points.box_score),
        "seconds_median": float(np.median([item.seconds for item in predictions])),
    }


def at_point(truth: NDArray[np.bool_], probability: NDArray[np.float64], point: float) -> dict[str, Any]:
    """Measure 'probability >= point' as an answer: the paper's four figures, sensitivity and specificity."""
    said = probability >= point
    hits, misses = int((said & truth).sum()), int((~said & truth).sum())
    alarms, silences = int((said & ~truth).sum()), int((~said & ~truth).sum())
    return {
        "point": point,
        "accuracy": (hits + silences) / len(truth),
        "precision": hits / max(1, hits + alarms),
        "recall": hits / max(1, hits + misses),
        "f1": 2 * hits / max(1, 2 * hits + alarms + misses),
        "sensitivity": hits / max(1, hits + misses),
        "sensitivity_95": wilson(hits, hits + misses),
        "specificity": silences / max(1, silences + alarms),
        "specificity_95": wilson(silences, silences + alarms),
    }


def by_body_part(predictions: Sequence[Prediction], probability: NDArray[np.float64]) -> dict[str, Any]:
    """AUC by body part where both classes are there; counts everywhere."""
    figures: dict[str, Any] = {}
    for part in BODY_PARTS:
        chosen = np.array([part in item.radiograph.body_parts for item in predictions])
        truth = np.array([item.radiograph.fractured for item in predictions])[chosen]
        both = 0 < truth.sum() < len(truth)
        area = auc(truth, probability[chosen]) if both else None
        figures[part] = {"images": int(chosen.sum()), "fractured": int(truth.sum()), "auc": area}
    return figures


def calibration_error(truth: NDArray[np.bool_], probability: NDArray[np.float64], bins: int = 10) -> float:
    """Mean distance of probability and observed share over ten bins of equal width, weighted by their images."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        (index == number).mean() * abs(truth[index == number].mean() - probability[index == number].mean())
        for number in np.unique(index)
    ]
    return float(np.sum(gaps))


def tabulate(truth: NDArray[np.bool_], decisions: Sequence[Decision]) -> dict[str, dict[str, int]]:
    """Count decisions by truth."""
    return {
        name: {
            decision.value: sum(d is decision and bool(t) is wanted for d, t in zip(decisions, truth, strict=True))
            for decision in Decision
        }
        for name, wanted in (("fractured", True), ("normal", False))
    }


def measure_boxes(predictions: Sequence[Prediction], box_score: float) -> dict[str, Any]:
    """Measure the boxes over all images and over the fractured ones alone."""
    images = [boxes_of(item, 0.0) for item in predictions]
    fractured = [image for image in images if len(image.truth)]
    shown = [boxes_of(item, box_score) for item in predictions]
    return {
        "map50": average_precision(images),
        "map50_95": mean_average_precision(images),
        "map50_fractured_images_only": average_precision(fractured),
        "sensitivity_at_false_boxes_an_image": dict(
            zip(map(str, FALSE_RATES), free_response(images, FALSE_RATES), strict=True)
        ),
        "box_score": box_score,
        "false_boxes_an_image_at_box_score": false_rate(shown),
        "sensitivity_at_box_score": free_response(shown, [float("inf")])[0],
    }


def boxes_of(item: Prediction, minimum_score: float) -> BoxesOfImage:
    """Turn a prediction into arrays."""
    kept = [box for box in item.boxes if box.score >= minimum_score]
    return BoxesOfImage(
        np.array([(box.x1, box.y1, box.x2, box.y2) for box in kept], dtype=np.float64).reshape(-1, 4),
        np.array([box.score for box in kept], dtype=np.float64),
        np.array(item.radiograph.boxes_xyxy, dtype=np.float64).reshape(-1, 4),
    )


def false_rate(images: Sequence[BoxesOfImage]) -> float:
    """Count the boxes that hit nothing, by image."""
    from_all = sum(len(image.scores) for image in images)
    hits = sum(int(match(image, 0.5).sum()) for image in images)
    return (from_all - hits) / len(images)


def report(predictions: Sequence[Prediction], calibration: Calibration, points: OperatingPoints) -> dict[str, Any]:
    """Measure without the truncated files and, where there are any, with them too."""
    whole = [item for item in predictions if not item.radiograph.truncated]
    figures = {"whole_files": measure(whole, calibration, points)}
    if len(whole) < len(predictions):
        figures["with_truncated_files"] = measure(predictions, calibration, points)
    return figures


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="the bundle's folder; the shipped one if not given")
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--split", default="valid")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    bundle = load_bundle(given.bundle)
    predictions = predict(Analyzer(bundle), load(given.data, given.split))
    manifest = bundle.manifest
    figures = report(predictions, manifest.calibration.build(), manifest.decision.build())
    given.out.write_text(json.dumps({"version": bundle.version, "split": given.split, **figures}, indent=1) + "\n")
    print(json.dumps(figures["whole_files"], indent=1))


if __name__ == "__main__":
    main()
