"""Show a bundle what is no radiograph, and valid, and count what it calls unlike its training images.

    python -m training.experiments.unlike_images --data DATA --pictures FOLDER --out training/results

Noise, gradients, patterns, single pixels and pages of text are made here; photographs and drawings are the picture
files of `--pictures`, such as those that scikit-image and scikit-learn bring.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from models.bundle import Bundle, load_bundle
from models.images import load_picture
from models.preprocess import normalise, prepare
from models.types import ImageError, is_unlike
from training.data.dataset import Radiograph, whole_files
from training.experiments.checks import ExperimentCheck
from training.experiments.findings import ResultWriter

FloatArray = NDArray[np.float32]
SHAPES = ((64, 64), (256, 256), (512, 400), (300, 600), (1024, 800), (2000, 1500))
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"})
SMALLEST_SIDE = 64
MOST_REFUSED = 0.01
LINE = "The quick brown fox jumps over the lazy dog"


def noise(rows: int, columns: int) -> Iterator[FloatArray]:
    """Make white noise, evenly and normally distributed."""
    random = np.random.default_rng(rows)
    yield random.random((rows, columns), dtype=np.float32)
    yield stretched(random.standard_normal((rows, columns), dtype=np.float32))


def smooth_noise(rows: int, columns: int) -> Iterator[FloatArray]:
    """Make clouds, fine and coarse."""
    random = np.random.default_rng(rows)
    for spread in (3, 12):
        yield stretched(cv2.GaussianBlur(random.random((rows, columns), dtype=np.float32), (0, 0), spread))


def gradients(rows: int, columns: int) -> Iterator[FloatArray]:
    """Make slopes of grey: to the right, downwards, from the middle."""
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j].astype(np.float32)
    yield from (x, y, stretched(np.hypot(x - 0.5, y - 0.5)))


def single_pixels(rows: int, columns: int) -> Iterator[FloatArray]:
    """Make one bright pixel on black, one dark on white."""
    image = np.zeros((rows, columns), np.float32)
    image[rows // 2, columns // 3] = 1
    yield from (image, 1 - image)


def patterns(rows: int, columns: int) -> Iterator[FloatArray]:
    """Make a chessboard, waves, a square and two halves."""
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j].astype(np.float32)
    yield (np.floor(8 * x) + np.floor(8 * y)) % 2
    yield (np.sin(80 * x) + 1) / 2
    yield ((abs(x - 0.4) < 0.2) & (abs(y - 0.4) < 0.2)).astype(np.float32)
    yield (x > 0.5).astype(np.float32)


def text(rows: int, columns: int) -> Iterator[FloatArray]:
    """Make a page of lines, white on black and black on white."""
    page = np.zeros((rows, columns), np.uint8)
    size = max(0.3, columns / 1000)
    for row in range(20, rows, math.ceil(40 * size)):
        cv2.putText(page, LINE, (5, row), cv2.FONT_HERSHEY_SIMPLEX, size, 255, 1, cv2.LINE_AA)
    white = (page / 255).astype(np.float32)
    yield from (white, 1 - white)


def stretched(pixels: FloatArray) -> FloatArray:
    """Bring the values to 0..1."""
    low, high = pixels.min(), pixels.max()
    return np.asarray((pixels - low) / (high - low), dtype=np.float32)


MADE: dict[str, Callable[[int, int], Iterator[FloatArray]]] = {
    "noise": noise,
    "smooth noise": smooth_noise,
    "gradients": gradients,
    "one pixel": single_pixels,
    "patterns": patterns,
    "pages of text": text,
}


def made(kind: str, shapes: Sequence[tuple[int, int]] = SHAPES) -> Iterator[FloatArray]:
    """Make the images of one kind, in every shape (rows, columns)."""
    for rows, columns in shapes:
        yield from MADE[kind](rows, columns)


def pictures(folders: Sequence[Path]) -> Iterator[FloatArray]:
    """Read the picture files below folders; small ones and what is no sound picture are passed over."""
    for path in sorted({path for folder in folders for path in folder.rglob("*")}):
        if path.suffix.lower() in PICTURES:
            try:
                pixels = load_picture(path).pixels
            except ImageError:
                continue
            if min(pixels.shape) >= SMALLEST_SIDE and pixels.min() < pixels.max():
                yield pixels


@torch.inference_mode()
def unlikeness(bundle: Bundle, pixels: FloatArray) -> float:
    """Return how unlike the bundle's training images an image (rows, columns) is; above 1 is unlike.

    Raises
    ------
    ValueError
        The bundle has no measure.
    """
    trunk = bundle.classifier_trunk
    canvas, _ = prepare(pixels, bundle.manifest.classifier.preprocessing.build())
    found = bundle.classifier(trunk(torch.from_numpy(normalise(canvas, trunk.normalisation))[None])).unlikeness
    if found is None:
        raise ValueError("the bundle has no measure of unlikeness")
    return float(found[0])


def check(bundle: Bundle, radiographs: Sequence[Radiograph], folders: Sequence[Path]) -> ExperimentCheck:
    """Count what is called unlike, kind by kind."""
    shown = {name: made(name) for name in MADE}
    shown |= {"pictures": pictures(folders), "valid": (item.pixels() for item in radiographs)}
    kinds: dict[str, dict[str, Any]] = {}
    for name, images in shown.items():
        values = [unlikeness(bundle, image) for image in tqdm(images, desc=name, unit="image", mininterval=5)]
        kinds[name] = {"images": len(values), "unlike": sum(map(is_unlike, values))}
        if values:
            kinds[name] |= {"least": min(values), "median": float(np.median(values)), "most": max(values)}
    return check_of(bundle.version, kinds)


def check_of(version: str, kinds: dict[str, dict[str, Any]]) -> ExperimentCheck:
    """Put the counts into words."""
    valid = kinds["valid"]
    others = [kind for name, kind in kinds.items() if name != "valid"]
    caught, shown = sum(kind["unlike"] for kind in others), sum(kind["images"] for kind in others)
    refused = valid["unlike"] / valid["images"]
    allowed = "within" if refused <= MOST_REFUSED else "above"
    return ExperimentCheck(
        title="Images unlike those of the training",
        question="Does the bundle notice what is no radiograph, and does it know valid's radiographs?",
        method=f"{shown} made images and pictures, {valid['images']} whole files of valid",
        config={"bundle": version, "most_refused": MOST_REFUSED},
        metrics={"kinds": kinds},
        verdict=f"{caught} of {shown} are unlike; of valid {refused:.1%}, {allowed} the {MOST_REFUSED:.0%} allowed",
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--bundle", type=Path, help="the bundle's folder; the shipped one if not given")
    parser.add_argument("--pictures", type=Path, action="append", default=[], help="folder of photographs and drawings")
    parser.add_argument("--out", type=Path, required=True, help="folder for check-unlike-images.json")
    given = parser.parse_args()
    writer = ResultWriter(given.out, given.data)
    found = check(load_bundle(given.bundle), whole_files(given.data, "valid"), given.pictures)
    print(found.verdict)
    writer.write("check-unlike-images", found.finding("unlike-images"))


if __name__ == "__main__":
    main()
