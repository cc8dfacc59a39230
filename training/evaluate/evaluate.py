"""Measure a bundle on a labelled split, through the very path that analyses a patient's image.

    python -m training.evaluate.evaluate --bundle FOLDER --data DATA --split valid --out RESULT.json --plots FOLDER

Images whose file ends early are measured apart: the product refuses them, and their grey band could be learnt. With
--predictions the networks' answers are kept, and a new calibration of the same networks is measured in seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.analyzer import Analyzer
from models.bundle import Bundle, load_bundle
from models.decision import Calibration, OperatingPoints
from models.manifest import Manifest
from training.data.dataset import Radiograph, copies, load
from training.evaluate.figures import at_point, measure, measure_boxes
from training.evaluate.metrics import thin
from training.evaluate.plots import write_plots
from training.evaluate.predictions import (
    Prediction,
    boxes_of,
    cost_of,
    load_predictions,
    networks_digest,
    predict,
    probability_of,
    save_predictions,
)
from training.runs import hashes

__all__ = [
    "Prediction",
    "at_point",
    "boxes_of",
    "cascade_row",
    "evaluate",
    "measure",
    "measure_boxes",
    "predict",
    "probability_of",
    "report",
]


def report(predictions: Sequence[Prediction], calibration: Calibration, points: OperatingPoints) -> dict[str, Any]:
    """Measure whole files and, without curves: with truncated files too; without images that training has seen.

    The second and third are there only where they differ from the first.
    """
    whole = [item for item in predictions if not item.radiograph.truncated]
    seen = {valid for _, valid in copies()}
    unseen = [item for item in whole if item.radiograph.name not in seen]
    figures = {"whole_files": measure(whole, calibration, points)}
    for name, others in (("with_truncated_files", predictions), ("without_copies", unseen)):
        if len(others) != len(whole):
            figures[name] = measure(others, calibration, points)
            del figures[name]["curves"]
    return figures


def asked_from(predictions: Sequence[Prediction], from_logit: float | None) -> list[Prediction]:
    """Return what the networks would have said if the detector were asked only from this logit on (None: always)."""
    limit = float("-inf") if from_logit is None else from_logit
    return [item if item.logit >= limit else replace(item, boxes=()) for item in predictions]


def cascade_row(
    predictions: Sequence[Prediction], calibration: Calibration, points: OperatingPoints, from_logit: float | None
) -> dict[str, Any]:
    """Measure the detector asked only where the classifier's logit reaches `from_logit` (None: always), briefly.

    Boxes of other images are dropped. Seconds are None where that was needed: the predictions paid for these boxes.
    """
    asked = asked_from(predictions, from_logit)
    figures = measure(asked, calibration, points)
    as_measured = all(one.boxes == other.boxes for one, other in zip(asked, predictions, strict=True))
    return {
        "detector_from_logit": from_logit,
        "detector_share": float(np.mean([from_logit is None or item.logit >= from_logit for item in predictions])),
        "auc": figures["auc"],
        "sensitivity": figures["low"]["sensitivity"],
        "specificity": figures["low"]["specificity"],
        "map50": figures["boxes"]["map50"] if figures["boxes"] else None,
        "seconds_median": figures["seconds_median"] if as_measured else None,
    }


def settings_of(manifest: Manifest) -> dict[str, Any]:
    """Return what decides a bundle's accuracy and cost: networks, sizes, looks, cascade."""
    return {
        "classifier": manifest.classifier.architecture,
        "classifier_longest_side": manifest.classifier.preprocessing.longest_side,
        "detector": manifest.detector.architecture,
        "detector_views": [f"{view.longest_side}{'m' if view.mirrored else ''}" for view in manifest.views()],
        "detector_from_logit": manifest.detector_from_logit,
        "shared_trunk": manifest.classifier.trunk.file == manifest.detector.trunk.file,
    }


def answers(
    bundle: Bundle, radiographs: Sequence[Radiograph], kept: Path | None = None
) -> tuple[list[Prediction], dict[str, Any]]:
    """Return the networks' answers and their cost, from `kept` where an earlier call has left them."""
    networks = networks_digest(bundle.manifest)
    if kept is not None and kept.exists():
        return load_predictions(kept, networks, radiographs)
    analyzer = Analyzer(bundle)
    predictions = predict(analyzer, radiographs)
    cost = cost_of(analyzer, predictions)
    if kept is not None:
        save_predictions(kept, networks, predictions, cost)
    return predictions, cost


def evaluate(bundle: Bundle, radiographs: Sequence[Radiograph], kept: Path | None = None) -> dict[str, Any]:
    """Measure a bundle; predictions of the same networks are read from `kept`, or written there."""
    manifest = bundle.manifest
    predictions, cost = answers(bundle, radiographs, kept)
    figures = report(predictions, manifest.calibration.build(), manifest.decision.build())
    return {"bundle": bundle.version, "settings": settings_of(manifest), "cost": cost, **figures}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="the bundle's folder; the shipped one if not given")
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--split", default="valid")
    parser.add_argument("--out", type=Path, required=True, help="the result's JSON file")
    parser.add_argument("--plots", type=Path, help="folder for the plots (PNG)")
    parser.add_argument("--predictions", type=Path, help="JSON file of the networks' answers: read, or else written")
    parser.add_argument("--title", help="what the models report calls it; the bundle's version if not given")
    parser.add_argument("--detector-from-logit", type=float, help="measure this cascade instead of the bundle's")
    parser.add_argument("--images", type=int, help="a trial on so many images, drawn evenly over the names")
    given = parser.parse_args()
    bundle = load_bundle(given.bundle)
    if given.detector_from_logit is not None:
        cascade = {"detector_from_logit": given.detector_from_logit}
        bundle = replace(bundle, manifest=bundle.manifest.model_copy(update=cascade))
    radiographs = load(given.data, given.split)
    chosen = thin(len(radiographs), given.images or len(radiographs))
    figures = evaluate(bundle, [radiographs[at] for at in np.asarray(chosen)], given.predictions)
    title = {"kind": "evaluation", "title": given.title or bundle.version, "split": given.split}
    given.out.write_text(json.dumps({**title, "data": hashes(given.data), **figures}, indent=1) + "\n")
    whole = figures["whole_files"]
    if given.plots is not None:
        write_plots(whole, given.plots)
    print(json.dumps({name: value for name, value in whole.items() if name != "curves"}, indent=1))


if __name__ == "__main__":
    main()
