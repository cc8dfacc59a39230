from pathlib import Path

import numpy as np
import pytest

from models.types import ScoredBox
from training.data.dataset import Radiograph
from training.evaluate import calibration
from training.evaluate.predictions import Prediction, probability_of
from training.runs import rate_at


def prediction(fractured: bool, logit: float, score: float) -> Prediction:
    box = (10.0, 10.0, 30.0, 30.0)
    radiograph = Radiograph("a.png", Path("a.png"), "valid", fractured, False, ("hand",), (box,) if fractured else ())
    return Prediction(radiograph, logit, (ScoredBox(*box, score),), 0.1)


def test_the_points_keep_their_rules() -> None:
    random = np.random.default_rng(0)
    fractured, normal = random.beta(4, 2, 81), random.beta(2, 4, 246)

    everyone = np.concatenate([fractured, normal])

    low, high = calibration.sensitive_point(fractured, everyone), calibration.specific_point(normal, everyone)

    next_above, next_below = everyone[everyone > low].min(), everyone[everyone < high].max()
    assert (fractured >= low).mean() >= calibration.SENSITIVITY > (fractured > next_above).mean()
    assert (normal < high).mean() >= calibration.SPECIFICITY > (normal < next_below).mean()
    assert low == pytest.approx((next_above + everyone[everyone < low].max()) / 2)  # between two images, on none
    assert high == pytest.approx((next_below + everyone[everyone > high].min()) / 2)


def test_the_box_threshold_lets_through_the_allowed_number_of_false_boxes() -> None:
    false = [prediction(False, 0.0, score / 100) for score in range(1, 21)]

    threshold = calibration.box_threshold(false)

    assert sum(item.best_score >= threshold for item in false) == calibration.FALSE_BOXES_AN_IMAGE * 20


def test_calibration_trusts_the_network_that_is_right_and_drops_the_one_that_is_wrong() -> None:
    random = np.random.default_rng(1)
    truth = random.random(400) < 0.3
    said = [prediction(bool(t), float(random.normal(2 * t - 1, 1)), float(random.uniform(0.1, 0.9))) for t in truth]
    reversed_score = [prediction(bool(t), float(random.normal(2 * t - 1, 1)), 0.2 if t else 0.8) for t in truth]

    fitted, without_detector = calibration.calibrate(said), calibration.calibrate(reversed_score)

    assert fitted.classifier_weight > 1
    assert abs(fitted.detector_weight) < 0.5
    assert without_detector.detector_weight == 0
    probability = np.array([probability_of(item, fitted) for item in said])
    assert probability.mean() == pytest.approx(truth.mean(), abs=0.01)


def test_the_rate_warms_up_and_comes_down() -> None:
    rates = [rate_at(step, 100, 10) for step in range(100)]

    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.06
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_boxes_of_images_that_look_normal_must_be_surer() -> None:
    random = np.random.default_rng(2)
    truth = random.random(300) < 0.4
    said = [prediction(bool(t), float(random.normal(2 * t - 1, 1)), float(random.beta(2 + 2 * t, 3))) for t in truth]

    fitted = calibration.calibrate_boxes(said)

    assert fitted is not None
    assert fitted.score_weight > 0
    assert fitted.classifier_weight > 0.5


def test_boxes_that_are_all_right_need_no_calibration() -> None:
    assert calibration.calibrate_boxes([prediction(True, 0.0, 0.5), prediction(True, 1.0, 0.6)]) is None


def test_networks_that_are_both_wrong_leave_the_share_of_fractured_images() -> None:
    said = [
        prediction(number % 4 == 0, -1.0 if number % 4 == 0 else 1.0, 0.2 if number % 4 == 0 else 0.8)
        for number in range(80)
    ]

    fitted = calibration.calibrate(said)

    assert fitted.probability(5.0, 0.9) == fitted.probability(-5.0, 0.1) == pytest.approx(0.25)


def test_images_that_are_told_apart_without_fault_still_make_a_manifest() -> None:
    said = [prediction(number % 2 == 0, 0.01 * (number % 2 == 0), 0.5) for number in range(40)]

    fitted = calibration.calibrate(said)

    assert max(abs(fitted.intercept), fitted.classifier_weight) <= calibration.LARGEST_COEFFICIENT


def test_the_box_threshold_is_one_of_calibrated_scores() -> None:
    random = np.random.default_rng(4)
    truth = random.random(200) < 0.4
    said = [prediction(bool(t), float(random.normal(2 * t - 1, 1)), float(random.beta(2 + 2 * t, 3))) for t in truth]
    fitted = calibration.calibrate(said)

    threshold = calibration.choose_points(said, fitted).box_score

    shown = [fitted.rescore(item.logit, item.boxes)[0].score >= threshold for item in said]
    false = sum(seen and not item.radiograph.fractured for seen, item in zip(shown, said, strict=True))
    assert 0 < false <= calibration.FALSE_BOXES_AN_IMAGE * len(said)
