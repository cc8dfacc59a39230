import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from training.evaluate import curves

DETECTOR = [
    {"step": 10, "loss_objectness": 0.5, "map50": 0.1, "free_response": {"0.5": 0.3}, "seconds": 1.0},
    {"step": 20, "loss_objectness": 0.2, "map50": 0.4, "free_response": {"0.5": 0.6}, "seconds": 2.0},
]
CLASSIFIER = [
    {"step": 0, "epoch": 0.0, "auc": 0.86, "seconds": 1.0},
    {"step": 9, "epoch": 1.0, "loss_image": 0.6, "auc": 0.9, "auc_of_heads": [0.8, 0.9], "seconds": 2.0},
]


def write_run(folder: Path, history: list) -> Path:
    (folder / "run.json").write_text(json.dumps({"history": history}))
    return folder


def lines(figure: Figure) -> dict[str, list[float]]:
    drawn = [line for axes in figure.axes for line in axes.get_lines()]
    return {str(line.get_label()): list(np.asarray(line.get_ydata())) for line in drawn}


def test_a_detector_s_history_becomes_a_table_with_nested_figures(tmp_path: Path) -> None:
    curves.write_curves(write_run(tmp_path, DETECTOR))

    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["map50"] for row in rows] == ["0.1", "0.4"]
    assert [row["free_response.0.5"] for row in rows] == ["0.3", "0.6"]


def test_of_each_block_one_figure_is_drawn_and_all_are_in_the_table(tmp_path: Path) -> None:
    blocks = {name: {"map50": 0.2, "map50_95": 0.1} for name in ("valid", "tune")}
    history = [{"step": 5, "map50": 0.2, "blocks": blocks}]

    curves.write_curves(write_run(tmp_path, history))

    assert "blocks.tune.map50_95" in (tmp_path / "history.csv").read_text()
    figure = curves.draw([curves.flat(entry) for entry in history])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["On all held-out blocks"]
    assert lines(figure).keys() == {
        "mAP50, all images",
        "mAP50, all images, valid alone",
        "mAP50, all images, tune alone",
    }


def test_a_figure_that_the_first_evaluation_lacks_is_an_empty_cell(tmp_path: Path) -> None:
    curves.write_curves(write_run(tmp_path, CLASSIFIER))

    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["loss_image"] for row in rows] == ["", "0.6"]
    assert "auc_of_heads" not in rows[0]


def test_losses_and_figures_are_drawn_apart_with_names_in_words() -> None:
    figure = curves.draw([curves.flat(entry) for entry in DETECTOR])

    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Losses", "On valid"]
    assert lines(figure) == {
        "proposals": [0.5, 0.2],
        "mAP50, all images": [0.1, 0.4],
        "boxes found at 0.5 false an image": [0.3, 0.6],
    }


def test_the_picture_is_the_same_each_time_and_shows_something(tmp_path: Path) -> None:
    curves.write_curves(write_run(tmp_path, CLASSIFIER))
    first = (tmp_path / "curves.png").read_bytes()
    curves.write_curves(tmp_path)

    assert (tmp_path / "curves.png").read_bytes() == first
    with Image.open(tmp_path / "curves.png") as picture:
        assert np.asarray(picture).std() > 5


def test_losses_that_fall_a_long_way_are_drawn_on_a_logarithmic_scale() -> None:
    steep = [{"step": 1, "loss_image": 5.0}, {"step": 2, "loss_image": 0.01}]

    assert curves.draw(steep).axes[0].get_yscale() == "log"
    assert curves.draw([curves.flat(entry) for entry in DETECTOR]).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(("content", "message"), [(None, "has no run.json"), ([], "has no evaluation yet")])
def test_a_folder_without_a_history_is_named(
    content: list | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    if content is not None:
        write_run(tmp_path, content)
    monkeypatch.setattr(sys, "argv", ["curves", str(tmp_path)])

    with pytest.raises(SystemExit) as stopped:
        curves.main()

    assert stopped.value.code == 1
    assert message in capsys.readouterr().err
