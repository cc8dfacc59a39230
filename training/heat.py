"""Does the classifier look where the fracture is? The share of its heat map inside the true boxes.

    python -m training.heat --data DATA --bundle FOLDER --out training/results

A map that knows nothing spreads its heat evenly and has as much of it in the boxes as they have of the image's area.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.analyzer import Analyzer
from models.bundle import load_bundle
from training.checks import Check
from training.dataset import Radiograph, whole_files
from training.findings import Desk

FloatArray = NDArray[np.float32]


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


def measure(analyzer: Analyzer, radiographs: Sequence[Radiograph]) -> dict[str, float | int]:
    """Measure the maps of fractured images against even ones; medians and means over the images."""
    inside, area, hits = [], [], 0
    for radiograph in tqdm(radiographs, unit="image", mininterval=5, disable=None):
        heat = analyzer.explain(radiograph.pixels())
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
    }


def check(bundle: Path | None, data: Path) -> Check:
    """Measure the bundle's maps on the fractured whole files of valid and say what came out."""
    analyzer = Analyzer(load_bundle(bundle))
    metrics = measure(analyzer, [item for item in whole_files(data, "valid") if item.boxes_xyxy])
    return Check(
        title="Does the classifier look at the fracture?",
        question="How much of the heat map's heat lies inside the true boxes, and how much would with an even map?",
        method=(
            "Grad-CAM on block 5 of the classifier, over the fractured whole files of valid; an even map has as much "
            "heat in the boxes as they have of the image's area"
        ),
        config={"bundle": analyzer.version},
        metrics=metrics,
        verdict=(
            f"{metrics['heat_inside_mean']:.3f} of the heat lies inside the boxes, {metrics['area_mean']:.3f} of an "
            f"even map's: {metrics['times_even_mean']:.1f} times as much; the hottest pixel lies in a box in "
            f"{metrics['hottest_pixel_inside']} of {metrics['images']} images"
        ),
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--bundle", type=Path, help="the bundle's folder; the shipped one if not given")
    parser.add_argument("--out", type=Path, required=True, help="folder for check-heat.json")
    given = parser.parse_args()
    desk = Desk(given.out, given.data)
    found = check(given.bundle, given.data)
    print(desk.write("check-heat", found.finding("heat")), json.dumps(found.metrics), found.verdict, sep="\n")


if __name__ == "__main__":
    main()
