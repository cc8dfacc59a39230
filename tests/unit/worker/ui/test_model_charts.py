"""The model's card: every curve of the shipped bundle is drawn from its points; a bundle without figures says so."""

from __future__ import annotations

import copy

import pytest
from streamlit.testing.v1 import AppTest

from models.manifest import SHIPPED, read_manifest
from tests.bundles import tiny_manifest, write_manifest, write_tiny_bundle
from worker.ui.model_charts import pictures


@pytest.fixture
def figures():
    return copy.deepcopy(read_manifest(SHIPPED).metrics["whole_files"])


def values(picture):
    """Return the rows that a picture draws, layer after layer."""
    return [row for layer in picture.chart.to_dict()["layer"] for row in layer["data"]["values"]]


def test_all_curves_of_the_shipped_bundle_are_drawn_with_words_beside(figures):
    drawn = {picture.title: picture for picture in pictures(figures)}
    titles = ["ROC curve", "Precision and recall", "Free-response curve", "Calibration", "Probability by truth"]
    assert list(drawn) == titles
    assert f"{figures['auc']:.3f}" in drawn["ROC curve"].words
    assert f"{figures['boxes']['map50']:.3f}" in drawn["Free-response curve"].words


def test_the_drawn_points_are_those_of_the_bundle(figures):
    (roc, *_) = pictures(figures)
    places = [(row["x"], row["y"]) for row in values(roc)]
    assert {tuple(point[:2]) for point in figures["curves"]["roc"]} <= set(places)
    high = figures["high"]
    assert (1 - high["specificity"], high["sensitivity"]) in places


def test_the_bars_of_the_scores_stand_on_the_axis(figures):
    bars = list(pictures(figures))[-1].chart.to_dict()["layer"][0]["encoding"]
    assert bars["y2"] == {"datum": 0}


def test_figures_that_were_not_measured_are_left_out(figures):
    figures["boxes"] = None
    figures["curves"]["roc"] = figures["curves"]["precision_recall"] = []
    assert [picture.title for picture in pictures(figures)] == ["Calibration", "Probability by truth"]


def page(bundle):
    """Show the page for a bundle. Streamlit runs the body of `script` alone, so it imports for itself."""

    def script(folder):
        from pathlib import Path  # noqa: PLC0415
        from types import SimpleNamespace  # noqa: PLC0415

        from worker.ui import page_model  # noqa: PLC0415

        settings = SimpleNamespace(installed_bundle=lambda: Path(folder))
        page_model.show(SimpleNamespace(settings=settings, record_view_once=lambda what: None))

    shown = AppTest.from_function(script, args=(str(bundle),), default_timeout=60).run()
    assert not shown.exception
    return shown


def test_the_page_shows_the_shipped_bundle_whole():
    shown = page(SHIPPED)
    titles = [each.value for each in shown.subheader]
    assert titles[:3] == ["In short", "Operating points", "Confusion matrix"]
    assert titles[-3:] == ["By body part", "By view", "By metal in the image"]
    assert not shown.warning
    assert not shown.info


@pytest.mark.parametrize(
    ("metrics", "kind"), [({}, "info"), ({"whole_files": {"curves": {"roc": 7}, "auc": "<b>"}}, "warning")]
)
def test_a_bundle_with_other_figures_or_none_is_shown_without_them(tmp_path, metrics, kind):
    folder = write_tiny_bundle(tmp_path / "bundle")
    write_manifest(folder, {**tiny_manifest(folder), "metrics": metrics})
    shown = page(folder)
    assert len(getattr(shown, kind)) == 1
    assert any("tiny" in each.value for each in shown.text)
