"""The page of all models: complete, the same every time, and up to date in this tree."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from models.classifier import CLASSIFIERS
from models.detector import DETECTORS
from models.manifest import SHIPPED, Manifest, read_manifest
from tests.bundles import write_tiny_bundle
from tests.predictions import figures
from tests.product import ROOT
from training.bundle.card import HEADS, card
from training.bundle.models_report import BARS, RESULTS, draw, read_results, render
from training.bundle.report_parts import tables_of

DOCS = ROOT / "docs"
COST = {
    "seconds_median": 0.5,
    "seconds_95th_percentile": 0.9,
    "peak_memory_mib": 1024,
    "device": "CPU",
    "dtype": "bfloat16",
    "threads": 2,
}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    metrics = {"split": "valid", "whole_files": json.loads(json.dumps(figures())), "cost": COST}
    return read_manifest(write_tiny_bundle(tmp_path / "bundle")).model_copy(update={"metrics": metrics})


def baseline(title: str, area: float, name: str = "natural") -> dict[str, Any]:
    four = dict.fromkeys(("accuracy", "precision", "recall", "f1", "specificity"), 0.75)
    metrics = {**four, "auc": area, "auc_95": [area - 0.05, area + 0.05], "images": 327, "fractured": 81}
    return {"kind": "baseline", "title": title, "model": "svm", "set": name, "metrics": metrics, "seconds": 61.4}


def run(title: str, *map50: float) -> dict[str, Any]:
    history = [{"step": 100 * number, "map50": each} for number, each in enumerate(map50, 1)]
    metrics = {"step": 100 * (map50.index(max(map50)) + 1), "map50": max(map50)}
    config = {"device": "CPU", "dtype": "float32"}
    return {"kind": "run", "title": title, "config": config, "history": history, "metrics": metrics, "seconds": 5400}


def check(**metrics: Any) -> dict[str, Any]:
    words = {"question": "Is there a shortcut?", "method": "Image sizes alone.", "verdict": "Hardly."}
    return {"kind": "check", "name": "shortcut", "title": "Shortcuts", **words, "metrics": metrics}


def test_the_card_has_words_for_every_network_that_a_bundle_can_hold() -> None:
    assert set(HEADS) >= {*CLASSIFIERS, *DETECTORS}


def test_the_page_in_this_tree_is_up_to_date() -> None:
    text = render(read_results(RESULTS), read_manifest(SHIPPED))

    written = (DOCS / "models.md").read_text(encoding="utf-8")

    assert written == text, "run `make models-report`"
    assert all((DOCS / picture).exists() for picture in re.findall(r"\]\((models/\w+\.png)\)", written))


def test_every_picture_that_the_page_names_is_drawn_and_no_other(manifest: Manifest, tmp_path: Path) -> None:
    results = [run("first", 0.1, 0.2), run("second", 0.1, 0.3)]
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "old.png").touch()

    draw(results, manifest, tmp_path / "models")

    named = set(re.findall(r"\]\(models/(\w+)\.png\)", render(results, manifest)))
    assert named == {path.stem for path in (tmp_path / "models").iterdir()}
    assert {"roc", "free_response", "detector"} <= named


def test_bars_say_what_is_reached_and_what_is_not(manifest: Manifest) -> None:
    rows = {(row[0], row[1]): row for row in (bar.row(manifest.metrics) for bar in BARS)}

    whole = manifest.metrics["whole_files"]
    area, (low, high) = whole["auc"], whole["auc_95"]
    reached = f"{area:.3f} ({low:.3f} to {high:.3f})"
    assert rows["AUC", "floor"][2:] == (">= 0.91", reached, "yes" if area >= 0.91 else "no", "-", "-")
    assert rows["seconds an image, median", "limit"][2:] == ("<= 1.3", "0.500", "yes", "-", "-")
    assert rows["memory at the peak, GB", "limit"][2:] == ("<= 3", "1.074", "yes", "-", "-")


def test_bars_tell_how_sure_a_share_of_boxes_is_and_what_other_images_calibration_would_give(
    manifest: Manifest,
) -> None:
    boxes = {"boxes": 90, "sensitivity_at_false_boxes_an_image": {"0.5": 58 / 90}, "map50": 0.5}
    whole = {**manifest.metrics["whole_files"], "boxes": boxes}
    cross_fitted = {"auc": 0.875, "low": {"sensitivity": 0.9136}, "map50": 0.4375}
    metrics = {**manifest.metrics, "whole_files": whole, "cross_fitted": cross_fitted}

    rows = {(row[0], row[1]): row for row in (bar.row(metrics) for bar in BARS)}

    assert rows["true boxes found at 0.5 false boxes an image", "floor"][3] == "0.644 (0.542 to 0.736)"
    assert rows["AUC", "floor"][-1] == "0.875"
    assert rows["sensitivity at the sensitive point", "floor"][-1] == "0.914"
    assert rows["mAP50, all images", "floor"][-1] == "0.438"
    assert rows["true boxes found at 0.5 false boxes an image", "floor"][-1] == "-"


def test_a_figure_without_the_copies_stands_beside_it(manifest: Manifest) -> None:
    metrics = {**manifest.metrics, "without_copies": {**manifest.metrics["whole_files"], "auc": 0.8125}}

    rows = {(row[0], row[1]): row for row in (bar.row(metrics) for bar in BARS)}

    assert rows["AUC", "floor"][-2] == "0.812"
    assert rows["seconds an image, median", "limit"][-2] == "-"


def test_a_check_of_another_bundle_says_so(manifest: Manifest) -> None:
    both = [check(auc=0.61) | {"config": {"bundle": name}} for name in (manifest.version, "2020-01-01-old+00000000")]

    here, elsewhere = (render([each], manifest) for each in both)

    assert "Measured on an earlier bundle" not in here
    assert "Measured on an earlier bundle, `2020-01-01-old+00000000`." in elsewhere


def test_a_figure_that_was_not_measured_is_no_figure(manifest: Manifest) -> None:
    whole = {**manifest.metrics["whole_files"], "boxes": None}
    metrics = {"split": "valid", "whole_files": whole}

    rows = [bar.row(metrics) for bar in BARS if bar.figure.startswith(("mAP50", "memory"))]

    assert {row[3:] for row in rows} == {("not measured", "-", "-", "-")}


def test_methods_are_compared_on_their_set_with_the_bundle_last(manifest: Manifest) -> None:
    results = [baseline("Forest", 0.8), baseline("SVM", 0.7), baseline("SVM, even", 0.9, "balanced")]

    text = render(results, manifest)

    natural, balanced = text.split("### Natural set")[1].split("### Balanced set")
    assert re.findall(r"^\| (SVM|Forest|the shipped bundle)", natural, re.M) == [
        "SVM",
        "Forest",
        *["the shipped bundle"] * 2,
    ]
    assert (
        "| SVM, even | 327 (81) | 0.750 | 0.750 | 0.750 | 0.750 | 0.900 (0.850 to 0.950) | 0.750 | - | 61 |" in balanced
    )


def test_a_check_shows_its_question_its_figures_and_its_verdict(manifest: Manifest) -> None:
    text = render([check(auc=0.61, auc_95=[0.5, 0.7], rotated={"5": {"auc": 0.9}, "10": {"auc": 0.8}})], manifest)

    assert "Is there a shortcut?\n\n**Hardly.**\n\nHow: Image sizes alone." in text
    assert "| auc | 0.610 (0.500 to 0.700) |" in text
    assert "| rotated | auc |\n| --- | --- |\n| 5 | 0.900 |" in text


def test_figures_of_any_shape_become_tables() -> None:
    flat = {"a": 1, "b": 0.5, "b_95": [0.4, 0.6]}

    tables = tables_of({"pairs": [], "flat": flat, "met": True, "rows": [{"x": 1}, {"x": 2, "y": None}]})

    assert tables[0].splitlines()[2:] == [
        "| pairs | none |",
        "| flat | a 1; b 0.500 (0.400 to 0.600) |",
        "| met | yes |",
    ]
    assert tables[1].splitlines()[2:] == ["| x | y |", "| --- | --- |", "| 1 | - |", "| 2 | - |"]


def test_a_long_table_is_cut_and_says_so() -> None:
    [table] = tables_of({"rows": [{"x": number} for number in range(20)]})

    assert table.splitlines()[-1] == "and 4 more."
    assert "| 15 |" in table
    assert "| 16 |" not in table


def test_runs_and_evaluations_have_their_rows(manifest: Manifest) -> None:
    settings = {"detector_views": ["704", "704m"], "detector_from_logit": -1.0}
    whole = manifest.metrics["whole_files"]
    evaluated = {"kind": "evaluation", "title": "two looks", "settings": settings, "cost": COST, "whole_files": whole}

    text = render([run("long one", 0.1, 0.4, 0.3), evaluated], manifest)

    assert "| long one | 300 | map50 0.400 | 200 | 1.5 | CPU, float32 | - |" in text
    assert "| two looks | 704, 704m | from logit -1.00 |" in text


def test_what_is_not_measured_yet_is_said(manifest: Manifest) -> None:
    text = render([], manifest)

    assert "Not measured yet." in text
    assert "Not made yet." in text


@pytest.mark.parametrize("content", [{"title": "no kind"}, {"kind": "guess", "title": "x"}, {"kind": "run"}])
def test_a_result_without_kind_or_title_is_named(content: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(json.dumps(content))

    with pytest.raises(ValueError, match=r"odd\.json needs a title and a kind"):
        read_results(tmp_path)


def test_the_card_tells_what_the_manifest_says(manifest: Manifest) -> None:
    cascade = {"detector_from_logit": -1.5, "detector_share": 0.4, "auc": 0.9, "sensitivity": 0.93, "specificity": 0.7}
    metrics = {**manifest.metrics, "cascade": [{**cascade, "map50": 0.5, "seconds_median": None}]}

    text = card(manifest.model_copy(update={"metrics": metrics}))

    area = metrics["whole_files"]["auc"]
    for words in (
        "`vgg16_location_map`: VGG16's block 5 with a pooling head",
        "on the classifier's trunk; longest side 128 pixels",
        f"| AUC | {area:.3f} (",
        "## By view",
        "## By metal in the image",
        "| from logit -1.50 | 0.40 | 0.900 | 0.930, 0.700 | 0.500 | - |",
        "| memory of the process at its peak | 1024 MiB |",
        "random weights: Apache-2.0",
    ):
        assert words in text
    assert "FracAtlas" not in text, "its limits are not those of other data"
