"""What is read of a labelled collection."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.product import ROOT
from tests.training_data import write_data
from training.data.dataset import copies, for_training, for_tuning, load, tune_block
from training.errors import CannotTrain

PARTS = ("hand", "leg", "hip", "shoulder", "mixed")
LATER = ("hardware", "frontal", "lateral", "oblique")
COLUMNS = ("file_name", "split", "fractured", *PARTS, *LATER, "truncated")
ROWS = (
    ("b.png", "train", 1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0),
    ("a.png", "train", 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0),
    ("c.png", "valid", 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0),
)


def collection(folder: Path, columns: tuple[str, ...] = COLUMNS) -> Path:
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(dict(zip(COLUMNS, row, strict=True)) for row in ROWS)
    coco = {"images": [{"id": 1, "file_name": "b.png"}], "annotations": [{"image_id": 1, "bbox": [2, 3, 10, 20]}]}
    (folder / "boxes_train.json").write_text(json.dumps(coco))
    return folder


def test_a_split_is_read_in_the_order_of_names_with_its_boxes_as_corners(tmp_path: Path) -> None:
    first, second = load(collection(tmp_path), "train")

    assert (first.name, first.fractured, first.boxes_xyxy) == ("a.png", False, ())
    assert (second.name, second.fractured, second.boxes_xyxy) == ("b.png", True, ((2, 3, 12, 23),))


def test_body_part_view_and_metal_are_read_where_the_table_has_them(tmp_path: Path) -> None:
    _, item = load(collection(tmp_path), "train")

    assert (item.body_parts, item.views, item.hardware) == (("hand",), ("frontal", "lateral"), True)


def test_a_table_without_views_is_read_too(tmp_path: Path) -> None:
    few = tuple(name for name in COLUMNS if name not in LATER)

    _, item = load(collection(tmp_path, few), "train")

    assert (item.views, item.hardware, item.patient) == ((), False, None)


def test_a_table_without_a_column_that_is_needed_is_refused(tmp_path: Path) -> None:
    few = tuple(name for name in COLUMNS if name not in {"hip", "truncated"})

    with pytest.raises(CannotTrain, match=r"labels\.csv lacks the columns hip, truncated"):
        load(collection(tmp_path, few), "train")


def test_a_picture_of_16_bits_keeps_its_grey_values(tmp_path: Path) -> None:
    grey = np.array([[0, 1, 32768], [65534, 65535, 100]], dtype=np.uint16)
    Image.fromarray(grey).save(collection(tmp_path) / "images" / "b.png")

    pixels = load(tmp_path, "train")[1].pixels()

    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(np.rint(pixels * 65535), grey)


def test_what_is_left_out_of_training_is_what_the_check_found_between_the_blocks() -> None:
    results = ROOT / "training" / "results"
    found = json.loads((results / "check-near-duplicates.json").read_text())["metrics"]["across_splits"]

    pairs = {tuple(name for _, name in sorted(zip(pair["splits"], pair["images"], strict=True))) for pair in found}

    assert set(copies()) == pairs


def rename(folder: Path, before: str, after: str) -> None:
    for path in (folder / "labels.csv", *folder.glob("boxes_*.json")):
        path.write_text(path.read_text().replace(before, after))


def test_an_image_that_lies_in_valid_too_never_teaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_data(tmp_path)
    first, copy = copies()[0]
    rename(tmp_path, "train0.png", first)
    rename(tmp_path, "valid0.png", copy)

    taught = {item.name for item in for_training(tmp_path)}

    assert first in {item.name for item in load(tmp_path, "train")}
    assert first not in taught
    assert len(taught) == 23
    assert "1 of train are left out" in capsys.readouterr().out


def test_an_image_of_another_collection_teaches_whatever_its_name(tmp_path: Path) -> None:
    write_data(tmp_path)
    rename(tmp_path, "train0.png", copies()[0][0])

    assert len(for_training(tmp_path)) == 24


def as_fracatlas(folder: Path) -> dict[str, str]:
    """Add to the table of train every image that `tune.csv` names, all with one picture; returns their uses."""
    uses = tune_rows()
    with (folder / "labels.csv").open("a", newline="") as file:
        for name in uses:
            csv.writer(file).writerow([name, "train", 0, 1, 0, 0, 0, 0, 0])
    return uses


def tune_rows() -> dict[str, str]:
    with (ROOT / "training" / "data" / "tune.csv").open(newline="") as file:
        return {row["file_name"]: row["use"] for row in csv.DictReader(file)}


def test_what_is_in_the_block_tune_or_nearly_in_it_never_teaches(tmp_path: Path) -> None:
    write_data(tmp_path)
    uses = as_fracatlas(tmp_path)

    taught = {item.name for item in for_training(tmp_path)}

    assert {"tune", "left out"} == set(uses.values())
    assert not taught & uses.keys()
    assert len(taught) == 24
    tuned = for_tuning(tmp_path)
    assert {item.name for item in tuned} == {name for name, use in uses.items() if use == "tune"}
    assert {item.split for item in tuned} == {"tune"}


def test_another_collection_has_no_block_tune(tmp_path: Path) -> None:
    write_data(tmp_path)
    rename(tmp_path, "train0.png", next(name for name, use in tune_rows().items() if use == "tune"))

    assert for_tuning(tmp_path) == []
    assert len(for_training(tmp_path)) == 24


def test_tune_is_one_range_of_numbers_without_the_copies_of_valid() -> None:
    numbers = sorted(int(name[3:10]) for name, use in tune_rows().items() if use == "tune")

    assert (numbers[0], numbers[-1]) == (2597, 3296)
    assert not {name for name, _ in copies()} & tune_rows().keys()
    assert tune_block([]) == {}
