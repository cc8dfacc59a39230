"""Change images of valid as other machines, viewers and archives might, and see what is left of a bundle's figures.

    python -m training.experiments.robustness --data DATA --bundle FOLDER --images 120 --out training/results

The same images are analysed under every change, half of them fractured as far as there are so many, so that a row of
the table differs from the first by the change alone. Boxes are carried along where the change moves the image.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.analyzer import Analyzer
from models.bundle import load_bundle
from training.data.augment import carry
from training.data.dataset import Radiograph, load
from training.evaluate.metrics import BoxesOfImage, auc, auc_difference_interval, auc_interval, average_precision, thin
from training.experiments.checks import ExperimentCheck
from training.experiments.findings import ResultWriter

FloatArray = NDArray[np.float32]
Floats = NDArray[np.float64]
Matrix = NDArray[np.float64]
Appearance = Callable[[FloatArray, np.random.Generator], FloatArray]
NOTHING_MOVES = np.eye(2, 3)
# What a change may cost before it is called a weakness.
LARGEST_LOSS = 0.03


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the table: what happens to the grey values, and by how many degrees the image is turned."""

    title: str
    appearance: Appearance = lambda pixels, _random: pixels
    degrees: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a bundle said of one changed image: probability, and boxes in the pixels of the changed image."""

    fractured: bool
    probability: float
    boxes: BoxesOfImage


def grain(pixels: FloatArray, random: np.random.Generator) -> FloatArray:
    """Add noise of 5 % of the grey scale, as of a much lower dose."""
    noisy = pixels + np.float32(0.05) * random.standard_normal(pixels.shape, dtype=np.float32)
    return np.asarray(np.clip(noisy, 0, 1), dtype=np.float32)


def flat(pixels: FloatArray, _random: np.random.Generator) -> FloatArray:
    """Press the grey scale to a third about its mean and store it in 8 bits, as a bad window does."""
    pressed = pixels.mean() + (pixels - pixels.mean()) / 3
    return np.asarray(np.rint(np.clip(pressed, 0, 1) * 255) / 255, dtype=np.float32)


def halved(pixels: FloatArray, _random: np.random.Generator) -> FloatArray:
    """Halve the resolution and bring the image back to its size, so that boxes stay where they are."""
    rows, columns = pixels.shape
    small = cv2.resize(pixels, (max(1, columns // 2), max(1, rows // 2)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def squeezed(pixels: FloatArray, _random: np.random.Generator) -> FloatArray:
    """Pass through a JPEG file of quality 30."""
    grey = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    _, code = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 30])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), dtype=np.float32) / np.float32(255)


def inverted(pixels: FloatArray, _random: np.random.Generator) -> FloatArray:
    """Turn black to white, as in a picture whose polarity nobody has noted."""
    return 1 - pixels


CHANGES = {
    "unchanged": Change("as it is"),
    "rotation_5": Change("turned by 5 degrees", degrees=5),
    "rotation_10": Change("turned by 10 degrees", degrees=10),
    "rotation_20": Change("turned by 20 degrees", degrees=20),
    "noise": Change("noise of 5 %", grain),
    "low_contrast": Change("a third of the contrast, 8 bits", flat),
    "half_resolution": Change("half the resolution", halved),
    "jpeg_30": Change("JPEG of quality 30", squeezed),
    "inverted": Change("inverted polarity", inverted),
}


def turn(pixels: FloatArray, degrees: float) -> tuple[FloatArray, Matrix]:
    """Turn an image about its middle on a black canvas that holds all of it.

    Returns
    -------
    pixels
        float32, (rows, columns) of the larger canvas.
    matrix
        The map (2, 3) of corners from the image to the canvas; see `training.data.augment.carry`.
    """
    if degrees == 0:
        return pixels, NOTHING_MOVES
    rows, columns = pixels.shape
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    size = (int(np.ceil(columns * cosine + rows * sine)), int(np.ceil(rows * cosine + columns * sine)))
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.column_stack([rotation, np.array(size) / 2 - rotation @ np.array([columns, rows]) / 2])
    centres = matrix.copy()  # warpAffine speaks of pixel centres, the matrix of corners
    centres[:, 2] += rotation @ (0.5, 0.5) - 0.5
    return np.asarray(cv2.warpAffine(pixels, centres, size, flags=cv2.INTER_LINEAR), dtype=np.float32), matrix


def ask(analyzer: Analyzer, radiograph: Radiograph, change: Change, seed: int) -> Answer:
    """Change one image and have it analysed; the same seed gives the same noise."""
    random = np.random.default_rng([seed, *radiograph.name.encode()])
    pixels, matrix = turn(radiograph.pixels(), change.degrees)
    analysis = analyzer.analyze(change.appearance(pixels, random), minimum_score=0.0)
    truth = carry(np.array(radiograph.boxes_xyxy, dtype=np.float32).reshape(-1, 4), matrix, pixels.shape)
    boxes = BoxesOfImage(
        np.array([(box.x1, box.y1, box.x2, box.y2) for box in analysis.boxes], dtype=np.float64).reshape(-1, 4),
        np.array([box.score for box in analysis.boxes], dtype=np.float64),
        truth.astype(np.float64),
    )
    return Answer(radiograph.fractured, analysis.probability, boxes)


def choose(radiographs: Sequence[Radiograph], images: int) -> list[Radiograph]:
    """Take so many whole images, half of them fractured if there are as many, evenly over the names."""
    whole = [item for item in radiographs if not item.truncated]
    fractured = [item for item in whole if item.fractured]
    normal = [item for item in whole if not item.fractured]
    half = min(images // 2, len(fractured))
    taken = [fractured[at] for at in thin(len(fractured), half)]
    return taken + [normal[at] for at in thin(len(normal), images - half)]


def tabulate(answers: dict[str, list[Answer]]) -> dict[str, dict[str, Any]]:
    """Measure each change's answers, and how far its AUC lies from the unchanged images'."""
    plain = np.array([answer.probability for answer in answers["unchanged"]])
    truth = np.array([answer.fractured for answer in answers["unchanged"]], dtype=bool)
    table = {}
    for name, found in answers.items():
        probability = np.array([answer.probability for answer in found])
        table[name] = {
            "title": CHANGES[name].title,
            "auc": auc(truth, probability),
            "auc_95": auc_interval(truth, probability),
            "auc_change": auc(truth, probability) - auc(truth, plain),
            "auc_change_95": auc_difference_interval(truth, probability, plain),
            "map50": average_precision([answer.boxes for answer in found]),
            "median_probability_change": float(np.median(np.abs(probability - plain))),
        }
    return table


def check(bundle: Path | None, radiographs: Sequence[Radiograph], images: int, seed: int) -> ExperimentCheck:
    """Measure a bundle under every change."""
    loaded = load_bundle(bundle)
    analyzer = Analyzer(loaded)
    chosen = choose(radiographs, images)
    bar = tqdm(total=len(CHANGES) * len(chosen), unit="image", mininterval=5)
    answers: dict[str, list[Answer]] = {name: [] for name in CHANGES}
    for radiograph in chosen:
        for name, change in CHANGES.items():
            answers[name].append(ask(analyzer, radiograph, change, seed))
            bar.update()
    bar.close()
    return check_of(loaded.version, tabulate(answers), chosen, seed)


def check_of(
    version: str, table: dict[str, dict[str, Any]], chosen: Sequence[Radiograph], seed: int
) -> ExperimentCheck:
    """Put the table into words; weak is what costs more AUC than allowed, the unchanged row apart."""
    weak = [row["title"] for row in table.values() if row["auc_change"] < -LARGEST_LOSS]
    fractured = sum(item.fractured for item in chosen)
    return ExperimentCheck(
        title="Robustness",
        question="What do rotation, noise, contrast, resolution, compression and polarity change?",
        method=f"the same {len(chosen)} whole images of valid ({fractured} fractured) under every change",
        config={"bundle": version, "images": len(chosen), "fractured": fractured, "seed": seed},
        metrics={"changes": table},
        verdict=f"An AUC lower by more than {LARGEST_LOSS}: {', '.join(weak) or 'none'}",
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--bundle", type=Path, help="the bundle's folder; the shipped one if not given")
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--out", type=Path, required=True, help="folder for check-robustness.json")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    writer = ResultWriter(given.out, given.data)
    found = check(given.bundle, load(given.data, "valid"), given.images, given.seed)
    print(
        writer.write("check-robustness", found.finding("robustness")),
        json.dumps(found.metrics),
        found.verdict,
        sep="\n",
    )


if __name__ == "__main__":
    main()
