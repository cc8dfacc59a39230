"""Does the classifier look where the fracture is? The share of its heat map inside the true boxes.

    python -m training.experiments.heat --data DATA --bundle FOLDER --out training/results

A map that knows nothing spreads its heat evenly and has as much of it in the boxes as they have of the image's area.
And a map that shows what the classifier has learnt must not stay the same when that is taken away: each is compared
with the map of a classifier whose last layers were drawn anew.

References
----------
J. Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import nn
from tqdm import tqdm

from models.analyzer import Analyzer
from models.bundle import Bundle, load_bundle
from models.classifier import Classifier
from training.data.dataset import Radiograph, whole_files
from training.experiments.checks import ExperimentCheck
from training.experiments.findings import ResultWriter

FloatArray = NDArray[np.float32]
Explain = Callable[[FloatArray], FloatArray]
SEED = 5
COMPARED_SIDE = 32  # maps are compared at about the size that they were computed in


def mask_of(radiograph: Radiograph, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels (rows, columns) that lie in any of the true boxes."""
    mask = np.zeros(shape, dtype=np.bool_)
    for x1, y1, x2, y2 in radiograph.boxes_xyxy:
        mask[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
    return mask


def share_inside(heat: FloatArray, mask: NDArray[np.bool_]) -> float:
    """Return the part of a map's heat inside a mask; a map without heat has none there."""
    total = float(heat.sum(dtype=np.float64))
    return float(heat[mask].sum(dtype=np.float64)) / total if total > 0 else 0.0


def reinitialise(classifier: Classifier[Any]) -> None:
    """Forget what the layers that end in one number, a logit or a map of them, have learnt."""
    for layer in classifier.head.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.shape[0] == 1:
            layer.reset_parameters()


def forgetful(bundle: Bundle) -> Explain:
    """Return maps of the bundle's classifier, its last layers drawn anew for each image."""
    classifier = copy.deepcopy(bundle.classifier)
    analyzer = Analyzer(replace(bundle, classifier=classifier))
    torch.manual_seed(SEED)

    def explain(pixels: FloatArray) -> FloatArray:
        reinitialise(classifier)
        return analyzer.explain(pixels)

    return explain


def likeness(one: FloatArray, other: FloatArray) -> float | None:
    """Return the rank correlation of two maps of one size; None where one has no heat and so no ranks."""
    small = [cv2.resize(heat, (COMPARED_SIDE, COMPARED_SIDE), interpolation=cv2.INTER_AREA) for heat in (one, other)]
    if min(float(np.ptp(heat)) for heat in small) == 0:
        return None
    return float(spearmanr(small[0].ravel(), small[1].ravel()).statistic)


def measure(explain: Explain, forgotten: Explain, radiographs: Sequence[Radiograph]) -> dict[str, float | int | None]:
    """Measure the maps of fractured images against even ones and against those of a classifier that forgot.

    Medians and means over the images.
    """
    inside, area, alike, hits = [], [], [], 0
    for radiograph in tqdm(radiographs, unit="image", mininterval=5, disable=None):
        pixels = radiograph.pixels()
        heat = explain(pixels)
        if (like := likeness(heat, forgotten(pixels))) is not None:
            alike.append(like)
        mask = mask_of(radiograph, heat.shape)
        inside.append(share_inside(heat, mask))
        area.append(float(mask.mean()))
        hits += bool(mask[np.unravel_index(int(heat.argmax()), heat.shape)])
    return {
        "images": len(radiographs),
        "heat_inside_mean": float(np.mean(inside)),
        "heat_inside_median": float(np.median(inside)),
        "area_mean": float(np.mean(area)),
        "area_median": float(np.median(area)),
        "times_even_mean": float(np.mean(inside) / np.mean(area)),
        "hottest_pixel_inside": hits,
        "compared_with_forgotten": len(alike),
        "likeness_to_forgotten_median": float(np.median(alike)) if alike else None,
        "likeness_to_forgotten_95th_percentile": float(np.percentile(alike, 95)) if alike else None,
    }


def check(bundle: Path | None, data: Path) -> ExperimentCheck:
    """Measure the bundle's maps on the fractured whole files of valid and say what came out."""
    loaded = load_bundle(bundle)
    analyzer, forgotten = Analyzer(loaded), forgetful(loaded)
    metrics = measure(analyzer.explain, forgotten, [item for item in whole_files(data, "valid") if item.boxes_xyxy])
    return ExperimentCheck(
        title="Does the classifier look at the fracture?",
        question="How much of the heat map's heat lies inside the true boxes, and how much would with an even map?",
        method=(
            "Grad-CAM on block 5 of the classifier, over the fractured whole files of valid; an even map has as much "
            "heat in the boxes as they have of the image's area. Beside it the rank correlation with the map of the "
            "same classifier, its last layers drawn anew for each image: 1 if the map did not show what was learnt; "
            "images for which either has no heat are left out of that"
        ),
        config={"bundle": analyzer.version},
        metrics=metrics,
        verdict=(
            f"{metrics['heat_inside_mean']:.3f} of the heat lies inside the boxes, {metrics['area_mean']:.3f} of an "
            f"even map's: {metrics['times_even_mean']:.1f} times as much; the hottest pixel lies in a box in "
            f"{metrics['hottest_pixel_inside']} of {metrics['images']} images. {_likeness_words(metrics)}"
        ),
    )


def _likeness_words(metrics: Mapping[str, Any]) -> str:
    if metrics["likeness_to_forgotten_median"] is None:
        return "No map could be compared with that of a classifier that forgot"
    return (
        f"Rank correlation with the map of a classifier that forgot, in {metrics['compared_with_forgotten']} images: "
        f"{metrics['likeness_to_forgotten_median']:.2f} in the median"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--bundle", type=Path, help="the bundle's folder; the shipped one if not given")
    parser.add_argument("--out", type=Path, required=True, help="folder for check-heat.json")
    given = parser.parse_args()
    writer = ResultWriter(given.out, given.data)
    found = check(given.bundle, given.data)
    print(writer.write("check-heat", found.finding("heat")), json.dumps(found.metrics), found.verdict, sep="\n")


if __name__ == "__main__":
    main()
