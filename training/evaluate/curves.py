"""A run's history as a table and a picture.

    python -m training.evaluate.curves RUN_FOLDER

writes `history.csv` and `curves.png` beside the folder's `run.json`, for any run: what is called a loss is drawn in one
panel, what is measured on held-out images (0 to 1) in another.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from training.evaluate.plots import canvases, draw_line, save

CSV_NAME, PNG_NAME = "history.csv", "curves.png"
# Columns that say where in a run a line belongs, not how good it was.
PLACES = ("step", "epoch", "seconds", "samples")
BLOCKS = "blocks."
NAMES = {
    "auc": "AUC",
    "map50": "mAP50, all images",
    "map50_95": "mAP50:95, all images",
    "map50_fractured_only": "mAP50, fractured images",
    "pointing": "map's peak in a box",
    "free_response": "boxes found at {} false an image",
    "free_response_iou30_or_centre": "boxes found by IoU 0.3 or centre at {}",
    "loss_classifier": "class of a box",
    "loss_box_reg": "corners of a box",
    "loss_objectness": "proposals",
    "loss_rpn_box_reg": "corners of a proposal",
    "loss_location": "location map",
}


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read the history of a run: one flat mapping an evaluation, nested figures under `outer.inner`.

    Raises
    ------
    ValueError
        The folder has no run.json, or one without any evaluation.
    """
    path = folder / "run.json"
    if not path.exists():
        raise ValueError(f"{folder} has no run.json")
    history = [flat(entry) for entry in json.loads(path.read_text())["history"]]
    if not history:
        raise ValueError(f"{path} has no evaluation yet")
    return history


def flat(entry: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Keep the numbers of one entry, those of mappings inside it under `outer.inner`; lists and words are left out."""
    numbers: dict[str, float] = {}
    for name, value in entry.items():
        if isinstance(value, Mapping):
            numbers |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            numbers[prefix + name] = float(value)
    return numbers


def write_table(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write one line an evaluation; a figure that an evaluation lacks is an empty cell."""
    names = list(dict.fromkeys(name for entry in history for name in entry))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in entry.items()} for entry in history)


def draw(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw losses and figures against the step."""
    names = list(dict.fromkeys(name for entry in history for name in entry))
    losses = [name for name in names if name.startswith("loss")]
    figures = [name for name in names if name not in losses and name not in PLACES]
    blocks = [name for name in figures if name.startswith(BLOCKS)]
    # Of a block alone one figure is enough for a picture; the table has all.
    drawn = [name for name in figures if name not in blocks or name.endswith((".map50", ".auc"))]
    measured = "On all held-out blocks" if blocks else "On valid"
    panels = {title: chosen for title, chosen in (("Losses", losses), (measured, drawn)) if chosen}
    picture, all_axes = canvases(list(panels), "step", "")
    for axes, (title, chosen) in zip(all_axes, panels.items(), strict=True):
        for name in chosen:
            nested = {"linewidth": 1.0, "linestyle": "--"} if "." in name else {}
            draw_line(axes, history, name, label=label(name), **nested)
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": min(2, len(chosen))}
        axes.legend(fontsize=8, frameon=False, **place)
        if title == "Losses" and _spread(history, chosen) > 20:
            axes.set_yscale("log")
    return picture


def write_curves(folder: Path) -> None:
    """Write `history.csv` and `curves.png` of a run's folder; raises ValueError as `read_history` does."""
    history = read_history(folder)
    write_table(history, folder / CSV_NAME)
    save(draw(history), folder / PNG_NAME)


def label(name: str) -> str:
    """Say what a column holds."""
    if name in NAMES:
        return NAMES[name]
    outer, _, inner = name.partition(".")
    if name.startswith(BLOCKS):
        block, _, figure = inner.partition(".")
        return f"{label(figure)}, {block} alone"
    if inner and outer in NAMES:
        return NAMES[outer].format(inner)
    return name.removeprefix("loss_").replace("_", " ").replace(".", ", ")


def _spread(history: Sequence[Mapping[str, float]], names: Sequence[str]) -> float:
    values = np.array([entry[name] for entry in history for name in names if entry.get(name, 0.0) > 0])
    return float(values.max() / values.min()) if len(values) else 1.0


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, with its run.json")
    given = parser.parse_args()
    try:
        write_curves(given.run)
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
