"""Check that one image gets one answer, whatever it is encoded as: JPEG, 12-bit DICOM, MONOCHROME1, another window.

    python deploy/check_encodings.py --data DATA --bundle FOLDER --images 40 --out training/results

Every image goes in by the product's own ways: a picture file through `models.images`, DICOM through
`dicom_io.pixels.frames`. The picture's answer is what the others are held against. The exit status is 1 where an
encoding differs by more than is allowed: probabilities by 0.02 in the median or 0.1 at the most, boxes by 2 pixels in
the median; or where more than a tenth of the boxes is lost, or as many come that the picture has not.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from make_samples import SCT, Labelled, Sample, build_instance
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from tqdm import tqdm

from dicom_io.pixels.frames import read_frames
from models.analyzer import Analyzer
from models.bundle import load_bundle
from models.types import ImageAnalysis, ScoredBox
from training.data.dataset import Radiograph, load
from training.evaluate.metrics import iou
from training.experiments.checks import ExperimentCheck
from training.experiments.findings import LIBRARIES, Measurement, ResultWriter
from training.experiments.robustness import choose

FloatArray = NDArray[np.float32]
MEDIAN_PROBABILITY, LARGEST_PROBABILITY, MEDIAN_PIXELS = 0.02, 0.1, 2.0
LEAST_FOUND_AGAIN, MOST_ADDED = 0.9, 0.1  # as shares of the pictures' boxes
SAME_FINDING_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Encoding:
    """One way to store an image as DICOM; `window` gives centre and width for the stored values, None for no window."""

    title: str
    window: Callable[[NDArray[np.uint16]], tuple[float, float] | None]
    inverted: bool = False


def full(_stored: NDArray[np.uint16]) -> tuple[float, float]:
    """Show all 4,096 values."""
    return 2048, 4096


def wide(_stored: NDArray[np.uint16]) -> tuple[float, float]:
    """Show the image darker and with less contrast than it has: its values fill half of the window."""
    return 3072, 8192


def tight(stored: NDArray[np.uint16]) -> tuple[float, float]:
    """Leave a hundredth of the pixels black and another white, as a reader does who looks at bone."""
    low, high = np.percentile(stored, (1, 99))
    return round((low + high) / 2), max(2, round(high - low))


def none(_stored: NDArray[np.uint16]) -> None:
    """Leave the choice to whoever shows the image."""


ENCODINGS = {
    "monochrome2": Encoding("DICOM, MONOCHROME2, 12 bits, full window", full),
    "monochrome1": Encoding("DICOM, MONOCHROME1, 12 bits, full window", full, inverted=True),
    "no_window": Encoding("DICOM, MONOCHROME2, 12 bits, no window", none),
    "wide_window": Encoding("DICOM, MONOCHROME2, 12 bits, window twice as wide", wide),
    "tight_window": Encoding("DICOM, MONOCHROME2, 12 bits, window of the middle 98 % of the pixels", tight),
}


@dataclass
class Differences:
    """How far an encoding's answers lie from the pictures'."""

    probabilities: list[float] = field(default_factory=list)
    pixels: list[float] = field(default_factory=list)
    boxes: int = 0
    added: int = 0

    def add(self, picture: ImageAnalysis, other: ImageAnalysis, box_score: float) -> None:
        """Compare one image: its probability, and each box that is shown with the one that lies on it most."""
        self.probabilities.append(abs(picture.probability - other.probability))
        shown, found = corners(picture.boxes, box_score), corners(other.boxes, box_score)
        overlaps = iou(shown, found)
        self.boxes += len(shown)
        self.added += int((overlaps.max(axis=0, initial=0) < SAME_FINDING_IOU).sum())
        for number in np.flatnonzero(overlaps.max(axis=1, initial=0) >= SAME_FINDING_IOU):
            self.pixels.append(float(np.abs(shown[number] - found[overlaps[number].argmax()]).max()))

    def summary(self) -> dict[str, Any]:
        """Return the figures, and whether they are allowed; no box in either is no objection."""
        median, most = float(np.median(self.probabilities)), float(np.max(self.probabilities))
        pixels = float(np.median(self.pixels)) if self.pixels else None
        return {
            "median_probability_difference": median,
            "largest_probability_difference": most,
            "boxes": self.boxes,
            "boxes_found_again": len(self.pixels),
            "boxes_added": self.added,
            "median_box_difference_pixels": pixels,
            "allowed": median <= MEDIAN_PROBABILITY
            and most <= LARGEST_PROBABILITY
            and len(self.pixels) >= LEAST_FOUND_AGAIN * self.boxes
            and self.added <= MOST_ADDED * self.boxes
            and (pixels is None or pixels <= MEDIAN_PIXELS),
        }


def corners(boxes: Sequence[ScoredBox], box_score: float) -> NDArray[np.float64]:
    """Return the corners (n, 4) of the boxes from a score on."""
    kept = [(box.x1, box.y1, box.x2, box.y2) for box in boxes if box.score >= box_score]
    return np.array(kept, dtype=np.float64).reshape(-1, 4)


def encode(radiograph: Radiograph, encoding: Encoding) -> Dataset:
    """Return a DX image of a radiograph's pixels, made as the sample studies are."""
    sample = Sample(
        "00-encoding", (radiograph.path.stem,), "DX", "HAND", SCT.Hand, "L", ("PA",), inverted=encoding.inverted
    )
    grey = np.rint(radiograph.pixels() * 255).astype(np.uint8)
    ds = build_instance(sample, 1, Labelled(grey, radiograph.fractured, radiograph.boxes_xyxy, 1.0))
    stored = np.frombuffer(ds.PixelData, dtype="<u2")
    # A MONOCHROME1 image is windowed before it is inverted (PS3.3 C.7.6.3.1.2, C.11.2): its own values count
    window = encoding.window(stored)
    if window is None:
        del ds.WindowCenter, ds.WindowWidth
    else:
        ds.WindowCenter, ds.WindowWidth = window
    return ds


def read_encoded(radiograph: Radiograph, encoding: Encoding, folder: Path) -> FloatArray:
    """Write a radiograph as DICOM and read it as the product does: (rows, columns), 0..1."""
    path = folder / "image.dcm"
    encode(radiograph, encoding).save_as(path, enforce_file_format=True)
    (frame,) = read_frames(path)
    return frame.pixels


def compare(bundle: Path | None, radiographs: Sequence[Radiograph]) -> tuple[str, dict[str, dict[str, Any]]]:
    """Analyse every image in every encoding; returns the bundle's version and each encoding's differences."""
    loaded = load_bundle(bundle)
    analyzer, box_score = Analyzer(loaded), loaded.manifest.decision.box_score
    differences = {name: Differences() for name in ENCODINGS}
    with tempfile.TemporaryDirectory() as folder:
        for radiograph in tqdm(radiographs, unit="image", mininterval=5):
            picture = analyzer.analyze(radiograph.pixels())
            for name, encoding in ENCODINGS.items():
                pixels = read_encoded(radiograph, encoding, Path(folder))
                differences[name].add(picture, analyzer.analyze(pixels), box_score)
    table = {name: {"title": ENCODINGS[name].title, **found.summary()} for name, found in differences.items()}
    return loaded.version, table


def check(bundle: Path | None, radiographs: Sequence[Radiograph]) -> ExperimentCheck:
    """Compare the encodings and say what came out."""
    version, table = compare(bundle, radiographs)
    apart = [row["title"] for row in table.values() if not row["allowed"]]
    return ExperimentCheck(
        title="One image, several encodings",
        question="Does an image get the same answer as JPEG, as 12-bit DICOM, as MONOCHROME1 and with another window?",
        method=(
            f"{len(radiographs)} images of valid in each encoding against the JPEG; allowed: {MEDIAN_PROBABILITY} in "
            f"the median and {LARGEST_PROBABILITY} at the most in probability, {MEDIAN_PIXELS:g} pixels in the median, "
            f"{LEAST_FOUND_AGAIN:.0%} of the boxes found again and {MOST_ADDED:.0%} added at the most"
        ),
        config={"bundle": version, "images": len(radiographs)},
        metrics={"encodings": table},
        verdict=f"Different by more than is allowed: {'; '.join(apart) or 'none'}",
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--bundle", type=Path, help="the bundle's folder; the shipped one if not given")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--out", type=Path, required=True, help="folder for check-encodings.json")
    given = parser.parse_args()
    writer = ResultWriter(given.out, given.data)
    found = check(given.bundle, choose(load(given.data, "valid"), given.images))
    finding: Measurement = found.finding("encodings")
    path = writer.write(
        "check-encodings", Measurement(finding.words, finding.config, finding.metrics, (*LIBRARIES, "pydicom"))
    )
    print(path, json.dumps(found.metrics, indent=1), found.verdict, sep="\n")
    if not all(row["allowed"] for row in found.metrics["encodings"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
