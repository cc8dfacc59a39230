"""What the networks said of labelled images, before calibration; kept in a file, a new calibration costs seconds."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.analyzer import Analyzer
from models.decision import Calibration
from models.manifest import Manifest
from models.types import ScoredBox
from training.data.dataset import Radiograph
from training.evaluate.metrics import BoxesOfImage
from training.hardware import Hardware


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the networks said of one image: the classifier's logit, every box best first, the time both took.

    The boxes have the detector's own scores; `rescored` gives them those that decide and are shown.
    """

    radiograph: Radiograph
    logit: float
    boxes: tuple[ScoredBox, ...]
    seconds: float

    @property
    def best_score(self) -> float:
        """The best box's score, 0 without one."""
        return self.boxes[0].score if self.boxes else 0.0


def probability_of(item: Prediction, calibration: Calibration) -> float:
    """Return the image's probability of a fracture, as the product computes it."""
    return calibration.probability(item.logit, calibration.evidence(item.boxes))


def rescored(item: Prediction, calibration: Calibration) -> Prediction:
    """Return the prediction with the boxes' calibrated scores, as the product shows them and decides by them."""
    return replace(item, boxes=calibration.rescore(item.logit, item.boxes))


def boxes_of(item: Prediction, minimum_score: float) -> BoxesOfImage:
    """Turn a prediction's boxes from a score on, and the true ones, into arrays."""
    kept = [box for box in item.boxes if box.score >= minimum_score]
    return BoxesOfImage(
        np.array([(box.x1, box.y1, box.x2, box.y2) for box in kept], dtype=np.float64).reshape(-1, 4),
        np.array([box.score for box in kept], dtype=np.float64),
        np.array(item.radiograph.boxes_xyxy, dtype=np.float64).reshape(-1, 4),
    )


def predict(analyzer: Analyzer, radiographs: Sequence[Radiograph]) -> list[Prediction]:
    """Run the networks over images; reading the file is not part of an image's time."""
    predictions = []
    for radiograph in tqdm(radiographs, unit="image", mininterval=5, disable=None):
        pixels = radiograph.pixels()
        started = time.perf_counter()
        logit, boxes = analyzer.candidates(pixels)
        predictions.append(Prediction(radiograph, logit, boxes, time.perf_counter() - started))
    return predictions


def cost_of(analyzer: Analyzer, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Say what an image costs here: seconds, memory of the whole process at its peak, and on what that was."""
    seconds = [item.seconds for item in predictions]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds_median": float(np.median(seconds)),
        "seconds_95th_percentile": float(np.percentile(seconds, 95)),
        "peak_memory_mib": round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024)),  # KiB but on a Mac
        **Hardware(analyzer.device, analyzer.dtype).describe(),
    }


def networks_digest(manifest: Manifest) -> str:
    """Return a word that changes with whatever changes a logit or a box, and with nothing else."""
    deciding = {"classifier", "detector", "detector_views", "detector_from_logit", "width", "files"}
    content = json.dumps(manifest.model_dump(mode="json", include=deciding), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def save_predictions(path: Path, networks: str, predictions: Sequence[Prediction], cost: dict[str, Any]) -> None:
    """Write predictions; `networks` is the `networks_digest` of the bundle that made them."""
    images = [
        {
            "name": item.radiograph.name,
            "logit": item.logit,
            "boxes": [[box.x1, box.y1, box.x2, box.y2, box.score] for box in item.boxes],
            "seconds": item.seconds,
        }
        for item in predictions
    ]
    path.write_text(json.dumps({"networks": networks, "cost": cost, "images": images}) + "\n")


def load_predictions(
    path: Path, networks: str, radiographs: Sequence[Radiograph]
) -> tuple[list[Prediction], dict[str, Any]]:
    """Read predictions of these images and their cost.

    Raises
    ------
    ValueError
        The file is of other networks, or lacks some of the images.
    """
    content = json.loads(path.read_text())
    if content["networks"] != networks:
        raise ValueError(f"{path.name} holds predictions of other networks; remove it, or name another file")
    said = {entry["name"]: entry for entry in content["images"]}
    if missing := sum(item.name not in said for item in radiographs):
        raise ValueError(f"{path.name} lacks {missing} of {len(radiographs)} images; remove it, or name another file")
    return [_prediction(item, said[item.name]) for item in radiographs], dict(content["cost"])


def _prediction(radiograph: Radiograph, entry: dict[str, Any]) -> Prediction:
    boxes = tuple(ScoredBox(*corners) for corners in entry["boxes"])
    return Prediction(radiograph, entry["logit"], boxes, entry["seconds"])
