"""What a site says of its images: a table of labels, boxes in COCO form. Every line that cannot be used is named.

A key is the name of a file, its path below the folder of images, or a DICOM image's SOP Instance UID.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.dataset import BODY_PARTS

Box = tuple[float, float, float, float]
KEYS = ("file_name", "sop_instance_uid")
WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
SHOWN = 10


class SiteDataError(ValueError):
    """The labels or boxes cannot be used, or there are too few; the message says where and what is wanted."""


@dataclass(frozen=True, slots=True)
class Label:
    """One line of the table; `patient_id` as the hospital writes it, so it goes nowhere but into `Patients`."""

    line: int
    key: str
    fractured: bool
    patient_id: str | None
    body_parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BoxedImage:
    """One image of a COCO file: `size` is (columns, rows) where the file gives them, boxes xyxy in pixels."""

    key: str
    size: tuple[int, int] | None
    boxes_xyxy: tuple[Box, ...]


def read_labels(path: Path) -> list[Label]:
    """Read a CSV table with `file_name` or `sop_instance_uid`, `fractured`, and perhaps `patient_id` and body parts.

    Raises
    ------
    SiteDataError
        A column is missing, a value is neither 1/0, true/false nor yes/no, or two lines contradict each other.
    OSError
        The file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            key = _key_column(path, columns)
            rows = [(reader.line_num, {name: (text or "").strip() for name, text in row.items()}) for row in reader]
    except (UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise SiteDataError(f"{path.name} is not a CSV table in UTF-8 with one value a column") from error
    wrong = [f"line {line}: {words}" for line, row in rows if (words := _obstacle(row, key))]
    if wrong:
        raise SiteDataError(_listed(f"{path.name} has {len(wrong)} lines that cannot be used", wrong))
    labels = [_label(line, row, key) for line, row in rows]
    _refuse_contradictions(path, labels)
    return labels


def _key_column(path: Path, columns: list[str]) -> str:
    key = next((name for name in KEYS if name in columns), None)
    if key is None or "fractured" not in columns:
        missing = "fractured" if key else " or ".join(KEYS)
        # The first line of a table without a header is a patient's: what stands there is not repeated.
        raise SiteDataError(f"{path.name} has no column {missing}; line 1 must name the columns")
    return key


def _obstacle(row: dict[str, str], key: str) -> str | None:
    if not row[key]:
        return f"{key} is empty"
    if row["fractured"].lower() not in WORDS:
        # In a line that has shifted a name or a birth date stands there: it is not repeated.
        return "fractured is none of 1 or 0, true or false, yes or no"
    return None


def _label(line: int, row: dict[str, str], key: str) -> Label:
    parts = tuple(part for part in BODY_PARTS if WORDS.get(row.get(part, "").lower(), False))
    return Label(line, row[key], WORDS[row["fractured"].lower()], row.get("patient_id") or None, parts)


def _refuse_contradictions(path: Path, labels: list[Label]) -> None:
    first: dict[str, Label] = {}
    wrong = [
        f"lines {first[label.key].line} and {label.line}: {label.key}"
        for label in labels
        if first.setdefault(label.key, label).fractured != label.fractured
    ]
    if wrong:
        raise SiteDataError(_listed(f"{path.name} calls {len(wrong)} images both fractured and not", wrong))


def read_boxes(path: Path) -> list[BoxedImage]:
    """Read a COCO file: `images` (id, file_name or sop_instance_uid), `annotations` (image_id, bbox: x, y, w, h).

    Raises
    ------
    SiteDataError
        It is not COCO, an annotation belongs to no image, a file or an id is there twice, or a box has no area.
    OSError
        The file cannot be read.
    """
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
        numbers = Counter(image["id"] for image in coco["images"])
        boxes: dict[Any, list[Box]] = defaultdict(list)
        for annotation in coco["annotations"]:
            x, y, width, height = map(float, annotation["bbox"])
            boxes[annotation["image_id"]].append((x, y, x + width, y + height))
        boxed = [_boxed(image, tuple(boxes[image["id"]])) for image in coco["images"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SiteDataError(f"{path.name} is not in COCO form ({type(error).__name__}: {error})") from error
    wrong = [*_doubled(numbers, boxed), *_wrong_boxes(boxes.keys() - numbers.keys(), boxed)]
    if wrong:
        raise SiteDataError(_listed(f"{path.name} has {len(wrong)} entries that cannot be used", wrong))
    return boxed


def _boxed(image: dict[str, Any], boxes: tuple[Box, ...]) -> BoxedImage:
    key = next(str(image[name]) for name in KEYS if image.get(name)) if any(map(image.get, KEYS)) else ""
    size = (int(image["width"]), int(image["height"])) if image.get("width") and image.get("height") else None
    return BoxedImage(key, size, boxes)


def _doubled(numbers: Counter[Any], boxed: list[BoxedImage]) -> Iterator[str]:
    yield from (f"{times} images of id {number}" for number, times in numbers.items() if times > 1)
    files = Counter(image.key for image in boxed if image.key)
    yield from (f"{times} images of the file {key}" for key, times in files.items() if times > 1)


def _wrong_boxes(strangers: set[Any], boxed: list[BoxedImage]) -> Iterator[str]:
    for number in sorted(strangers, key=str):
        yield f"annotations of image_id {number}, which images does not list"
    for image in boxed:
        if not image.key:
            yield "an image with neither file_name nor sop_instance_uid"
        # Not "<= 0": what is not a number is no area either.
        if not all(x2 - x1 > 0 and y2 - y1 > 0 for x1, y1, x2, y2 in image.boxes_xyxy):
            yield f"a box without area in {image.key}"


def _listed(head: str, lines: list[str]) -> str:
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([head, *lines[:SHOWN], *more])
