"""FracAtlas as this project reads it: rows of labels.csv, boxes in COCO form, pictures.

FracAtlas: I. Abedeen et al., "FracAtlas: A Dataset for Fracture Classification, Localization and Segmentation of
Musculoskeletal Radiographs", Scientific Data 10:521, 2023, CC BY 4.0.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from models.images import read_image
from training.errors import CannotTrain

FloatArray = NDArray[np.float32]
BODY_PARTS = ("hand", "leg", "hip", "shoulder", "mixed")
VIEWS = ("frontal", "lateral", "oblique")
COLUMNS = ("file_name", "split", "fractured", *BODY_PARTS, "truncated")


@dataclass(frozen=True, slots=True)
class Radiograph:
    """One labelled image; `boxes_xyxy` in pixels of the upright picture, origin at its top left corner.

    FracAtlas itself is so: of its two boxed files with an EXIF orientation, the boxes lie right on the upright picture.

    `hardware` says whether metal (plates, screws, casts) is seen; `patient` is a word that images of one patient share,
    never a name or number of a hospital, or None where the collection does not say.
    """

    name: str
    path: Path
    split: str
    fractured: bool
    truncated: bool
    body_parts: tuple[str, ...]
    boxes_xyxy: tuple[tuple[float, float, float, float], ...]
    views: tuple[str, ...] = ()
    hardware: bool = False
    patient: str | None = None

    def pixels(self) -> FloatArray:
        """Read the picture, upright: float32, (rows, columns), 0..1."""
        return read_truncated(self.path) if self.truncated else read_image(self.path)


def load(folder: Path, split: str) -> list[Radiograph]:
    """Read the labels and boxes of one split ('train' or 'valid') of the data folder, ordered by name.

    Raises
    ------
    CannotTrain
        The labels lack a column.
    """
    boxes = _boxes(folder / f"boxes_{split}.json")
    with (folder / "labels.csv").open(newline="") as file:
        table = csv.DictReader(file)
        if missing := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
            raise CannotTrain(f"{folder / 'labels.csv'} lacks the columns {', '.join(missing)}")
        rows = [row for row in table if row["split"] == split]
    return [_radiograph(folder, row, boxes[row["file_name"]]) for row in sorted(rows, key=lambda row: row["file_name"])]


def for_training(folder: Path) -> list[Radiograph]:
    """Return what may teach: train without files that end early, without tune, and without copies of valid or tune."""
    train = whole_files(folder, "train")
    copied, tune = _copies_of_valid(folder), tune_block(train)
    kept = [item for item in train if item.name not in copied | tune.keys()]
    print(f"{len(kept)} images teach; {len(train) - len(kept)} of train are left out: they judge, or are nearly such")
    return kept


def for_tuning(folder: Path) -> list[Radiograph]:
    """Return the block `tune`, by which choices are made beside valid: a part of FracAtlas's train that never teaches.

    Empty for another collection.
    """
    train = whole_files(folder, "train")
    copied, block = _copies_of_valid(folder), tune_block(train)
    names = {name for name, use in block.items() if use == "tune"} - copied
    return [replace(item, split="tune") for item in train if item.name in names]


def judging_blocks(folder: Path) -> dict[str, list[Radiograph]]:
    """Return the blocks by which choices are made: valid and, in FracAtlas, tune; one without images is left out."""
    blocks = {"valid": whole_files(folder, "valid"), "tune": for_tuning(folder)}
    return {name: block for name, block in blocks.items() if block}


def _copies_of_valid(folder: Path) -> set[str]:
    # Another collection may use a name of FracAtlas, hardly both names of a pair.
    valid = {item.name for item in load(folder, "valid")}
    return {name for name, copy in copies() if copy in valid}


def tune_block(train: Sequence[Radiograph]) -> dict[str, str]:
    """Say which images of train are in the block `tune`, and which are nearly one of it (`left out`), by name.

    Empty where train is not FracAtlas's: another collection may use some of its names, hardly all of them.
    """
    with (Path(__file__).parent / "tune.csv").open(newline="") as file:
        uses = {row["file_name"]: row["use"] for row in csv.DictReader(file)}
    return uses if uses.keys() <= {item.name for item in train} else {}


def whole_files(folder: Path, split: str) -> list[Radiograph]:
    """Read a split without its truncated files: their grey band is a shortcut that a network would learn."""
    return [item for item in load(folder, split) if not item.truncated]


def copies() -> list[tuple[str, str]]:
    """List FracAtlas's images of train that lie in valid too, and their names there.

    Found by `training.data.near_duplicates`; most are valid's truncated files, whose whole picture is in train.
    """
    with (Path(__file__).parent / "copies.csv").open(newline="") as file:
        return [(row["train"], row["valid"]) for row in csv.DictReader(file)]


def read_truncated(path: Path) -> FloatArray:
    """Read a JPEG that ends early; what is missing is grey. Only for measuring what such files do to the models."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            return np.asarray(picture.convert("L"), dtype=np.float32) / np.float32(255)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _boxes(path: Path) -> dict[str, list[tuple[float, float, float, float]]]:
    coco = json.loads(path.read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    boxes: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    for annotation in coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        boxes[names[annotation["image_id"]]].append((x, y, x + width, y + height))
    return boxes


def _radiograph(folder: Path, row: dict[str, str], boxes: list[tuple[float, float, float, float]]) -> Radiograph:
    return Radiograph(
        name=row["file_name"],
        path=folder / "images" / row["file_name"],
        split=row["split"],
        fractured=row["fractured"] == "1",
        truncated=row["truncated"] == "1",
        body_parts=tuple(part for part in BODY_PARTS if row[part] == "1"),
        boxes_xyxy=tuple(boxes),
        views=tuple(view for view in VIEWS if row.get(view) == "1"),
        hardware=row.get("hardware") == "1",
    )
