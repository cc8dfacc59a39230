"""Pictures of figures: that they are drawn, of what, and always the same."""

from pathlib import Path

import pytest
from PIL import Image

from models.decision import Calibration
from tests.predictions import POINTS, figures, one
from training.evaluate.figures import measure
from training.evaluate.plots import draw_free_response, draw_history, draw_roc, drawable, save, write_plots

ALL = ["roc", "precision_recall", "reliability", "free_response", "scores"]


def words(figure) -> str:
    [axes] = figure.axes
    return "\n".join(text.get_text() for text in axes.get_legend().get_texts())


def test_every_picture_is_written_and_readable(tmp_path: Path) -> None:
    paths = write_plots(figures(), tmp_path / "plots")

    assert [path.stem for path in paths] == ALL
    for path in paths:
        with Image.open(path) as picture:
            assert min(picture.size) > 400
            assert len(picture.convert("RGB").getcolors(1_000_000)) > 50, f"{path.name} is empty"


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save(draw_roc(figures()), tmp_path / name) for name in ("a.png", "b.png"))

    assert first.read_bytes() == second.read_bytes()


def test_the_roc_curve_tells_its_area_and_the_paper_s_four_figures() -> None:
    measured = figures()

    told = words(draw_roc(measured))

    assert f"AUC {measured['auc']:.3f}" in told
    assert f"acc. {measured['high']['accuracy']:.3f}" in told
    assert "sensitive point 0.100" in told


def test_the_free_response_curve_passes_through_the_figures_of_the_table() -> None:
    measured = figures()

    curve, rates, _ = draw_free_response(measured).axes[0].get_lines()

    assert list(rates.get_ydata()) == list(measured["boxes"]["sensitivity_at_false_boxes_an_image"].values())
    assert max(curve.get_ydata()) == pytest.approx(measured["curves"]["free_response"][-1][1])


def test_one_class_without_boxes_has_neither_roc_nor_free_response(tmp_path: Path) -> None:
    measured = measure([one(False, 1.0, 0.2), one(False, -1.0, 0.1)], Calibration(0, 1, 0), POINTS)

    assert drawable(measured) == ["reliability", "scores"]
    assert len(write_plots(measured, tmp_path)) == 2


def test_runs_are_drawn_by_step_under_their_names() -> None:
    history = [{"step": step, "map50": step / 1000} for step in (100, 200, 300)]

    figure = draw_history({"first": history, "second": history[:2]}, "map50", "mAP50 on valid")

    assert words(figure) == "first\nsecond"
    assert list(figure.axes[0].get_lines()[1].get_xdata()) == [100, 200]
