"""A site in miniature: images with labels and boxes, and a bundle whose networks see something."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from tests.builders import build_dx, write_part10
from tests.bundles import tiny_manifest, write_manifest, write_tiny_bundle
from worker.cli.root import app

ROWS, COLUMNS, SIDE = 130, 110, 26
PATIENTS = 30  # three parts of each class need 13 at least


class Site:
    """A folder of images with labels and boxes, and a bundle that is in use there."""

    def __init__(self, root: Path) -> None:
        self.images, self.labels, self.boxes = root / "images", root / "labels.csv", root / "boxes.json"
        self.bundle, self.out = root / "bundle", root / "out"
        self.images.mkdir(parents=True)

    def arguments(self, command: str, *more: object) -> list[str]:
        tables = ["--labels", self.labels, "--boxes", self.boxes]
        return [str(each) for each in ("train", command, self.images, *tables, *more)]


def write_site(site: Site, write: Callable[[Path, np.ndarray, int], str]) -> None:
    random = np.random.default_rng(0)
    rows: list[list[str]] = []
    coco: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for patient in range(PATIENTS):
        pixels = random.integers(0, 1400, (ROWS, COLUMNS), dtype=np.uint16)
        fractured = patient % 2
        x, y = (int(value) for value in random.integers(8, 70, 2))
        pixels[y : y + SIDE, x : x + SIDE] += np.uint16(2400 * fractured)
        name = write(site.images, pixels, patient)
        rows.append([name, ("no", "yes")[fractured], f"MRN{patient:04d}"])
        if fractured:
            coco["images"].append({"id": patient, "file_name": name, "width": COLUMNS, "height": ROWS})
            coco["annotations"].append({"image_id": patient, "bbox": [x, y, SIDE, SIDE]})
    with site.labels.open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "fractured", "patient_id"], *rows])
    site.boxes.write_text(json.dumps(coco))


def as_dicom(folder: Path, pixels: np.ndarray, patient: int) -> str:
    name = f"study{patient}/image.dcm"
    words = {"study": f"s{patient}", "instance": f"i{patient}"}
    write_part10(build_dx(pixels=pixels, PatientID=f"MRN{patient:04d}", **words), folder / name)
    return name


def as_picture(folder: Path, pixels: np.ndarray, patient: int) -> str:
    Image.fromarray((pixels // 16).astype(np.uint8)).save(folder / f"{patient:02d}.png")
    return f"{patient:02d}.png"


def write_lively_bundle(folder: Path) -> None:
    """Random layers shrink what passes them; doubled, a signal reaches the head."""
    write_tiny_bundle(folder)
    for path in folder.glob("*.safetensors"):
        layers = load_file(path)
        louder = {
            name: tensor * (2.2 if "features" in name and tensor.ndim == 4 else 1) for name, tensor in layers.items()
        }
        save_file(louder, path)
    write_manifest(folder, tiny_manifest(folder))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])
