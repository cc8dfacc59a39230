"""Figures of predictions, counted by hand where that is possible."""

from dataclasses import replace

import pytest

from models.decision import BoxCalibration, Calibration, OperatingPoints
from tests.predictions import CALIBRATION, POINTS, many, one
from training.data.dataset import copies
from training.evaluate.evaluate import cascade_row, report
from training.evaluate.figures import measure, measure_boxes
from training.evaluate.predictions import Prediction

PLAIN = Calibration(0, 1, 0)


def of(item: Prediction, **labels: object) -> Prediction:
    return replace(item, radiograph=replace(item.radiograph, **labels))


def test_figures_are_those_counted_by_hand() -> None:
    predictions = [one(True, 2.0, 0.9), one(True, -2.0, 0.4, hit=False), one(False, 1.0, 0.3), one(False, -3.0, 0.2)]

    figures = measure(predictions, PLAIN, OperatingPoints(low=0.1, high=0.5, box_score=0.35))

    assert figures["auc"] == 0.75
    assert figures["high"]["sensitivity"] == figures["high"]["specificity"] == figures["high"]["accuracy"] == 0.5
    assert figures["low"]["sensitivity"] == 1.0
    assert figures["boxes"]["sensitivity_at_box_score"] == 0.5
    assert figures["boxes"]["false_boxes_an_image_at_box_score"] == 0.25
    assert figures["decisions"] == {
        "fractured": {"present": 1, "inconclusive": 1, "absent": 0},
        "normal": {"present": 1, "inconclusive": 0, "absent": 1},
    }


def test_the_paper_s_four_figures_of_a_worked_example() -> None:
    predictions = [one(True, 1, 0.1)] * 3 + [one(True, -1, 0.1)] + [one(False, 1, 0.1)] * 2 + [one(False, -1, 0.1)] * 4

    at = measure(predictions, PLAIN, OperatingPoints(0.1, 0.5, 0.5))["high"]

    assert (at["accuracy"], at["precision"], at["recall"]) == (0.7, 0.6, 0.75)
    assert at["f1"] == pytest.approx(2 * 0.6 * 0.75 / 1.35)


def test_groups_are_measured_apart_and_only_where_they_have_images() -> None:
    figures = measure(many(), CALIBRATION, POINTS)

    assert {name: entry["images"] for name, entry in figures["by_body_part"].items()} == {"hand": 30, "leg": 30}
    assert set(figures["by_view"]) == {"frontal", "lateral"}
    assert figures["by_hardware"]["yes"]["images"] == 7
    assert figures["by_hardware"]["yes"]["auc"] is None, "all of them are fractured"
    assert figures["by_hardware"]["yes"]["low"]["specificity"] is None


def test_a_part_of_the_body_that_fracatlas_does_not_know_is_a_group_too() -> None:
    predictions = [of(one(True, 1.0, 0.5), body_parts=("spine",)), one(False, 0.0, 0.5)]

    assert list(measure(predictions, PLAIN, POINTS)["by_body_part"]) == ["hand", "spine"]


@pytest.mark.parametrize("fractured", [True, False])
def test_one_class_alone_has_no_area_and_half_of_the_shares(fractured: bool) -> None:
    figures = measure([one(fractured, 1.0, 0.9), one(fractured, 0.0, 0.2)], PLAIN, POINTS)

    assert figures["auc"] is figures["auc_95"] is figures["average_precision"] is None
    assert (figures["low"]["sensitivity"] is None) == (not fractured)
    assert (figures["low"]["specificity"] is None) == fractured
    assert (figures["boxes"] is None) == (not fractured)


def test_fractured_images_that_nobody_drew_a_box_in_are_left_out_of_the_figures_of_boxes() -> None:
    undrawn = of(one(True, 1.0, 0.9), boxes_xyxy=())

    figures = measure_boxes([one(True, 1.0, 0.8), undrawn, one(False, 0.0, 0.1)], 0.5)

    assert figures is not None
    assert (figures["images"], figures["fractured_images_without_a_box"], figures["map50"]) == (2, 1, 1.0)
    assert measure_boxes([undrawn, one(False, 0.0, 0.1)], 0.5) is None


def test_boxes_are_measured_and_decided_on_with_their_calibrated_scores() -> None:
    # The false box has the higher score of its own; only the classifier tells them apart.
    predictions = [one(True, 3.0, 0.5), one(False, -3.0, 0.9, hit=False)]
    calibration = Calibration(0, 1, 0, BoxCalibration(0.0, 0.1, 1.0))

    figures = measure(predictions, calibration, OperatingPoints(0.5, 0.9, 0.5))

    assert figures["boxes"]["map50"] == 1.0
    assert figures["boxes"]["map50_detector_alone"] == pytest.approx(0.5)
    assert figures["decisions"]["normal"] == {"present": 0, "inconclusive": 0, "absent": 1}


def test_intervals_are_by_patient_only_where_every_patient_is_known() -> None:
    by_image = many()
    by_patient = [of(item, patient=f"patient-{number // 6}") for number, item in enumerate(by_image)]

    assert measure(by_image, CALIBRATION, POINTS)["patients"] is None
    assert measure([*by_patient[:-1], by_image[-1]], CALIBRATION, POINTS)["patients"] is None
    figures = measure(by_patient, CALIBRATION, POINTS)
    assert figures["patients"] == 10
    assert figures["auc_95"] != measure(by_image, CALIBRATION, POINTS)["auc_95"]


def test_a_point_that_nothing_reaches_has_no_precision() -> None:
    item = measure([one(True, 0.0, 0.1), one(False, 0.0, 0.1)], PLAIN, OperatingPoints(0.5, 0.99, 0.5))["high"]

    assert (item["precision"], item["sensitivity"], item["specificity"]) == (None, 0.0, 1.0)


def test_a_cascade_drops_the_boxes_of_images_that_the_classifier_finds_normal() -> None:
    predictions = [one(True, 2.0, 0.9), one(True, -2.0, 0.9), one(False, -3.0, 0.2), one(False, 1.0, 0.1)]

    always = cascade_row(predictions, PLAIN, POINTS, None)
    asked = cascade_row(predictions, PLAIN, POINTS, 0.0)

    assert (always["detector_share"], always["map50"], always["seconds_median"]) == (1.0, 1.0, 0.1)
    assert asked["detector_share"] == 0.5
    assert asked["map50"] == pytest.approx(51 / 101)
    assert asked["seconds_median"] is None, "these boxes were paid for"


def test_files_that_end_early_and_copies_of_train_are_measured_apart() -> None:
    predictions = many()
    odd = [replace(predictions[0].radiograph, name=copies()[0][1]), replace(predictions[1].radiograph, truncated=True)]
    predictions[:2] = [replace(p, radiograph=r) for p, r in zip(predictions[:2], odd, strict=True)]

    figures = report(predictions, CALIBRATION, POINTS)

    counts = {name: entry["images"] for name, entry in figures.items()}
    assert counts == {"whole_files": 59, "with_truncated_files": 60, "without_copies": 58}


def test_images_that_are_all_whole_and_new_are_measured_once() -> None:
    assert set(report(many(), CALIBRATION, POINTS)) == {"whole_files"}
