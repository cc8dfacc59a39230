import math

import pytest

from models.decision import BoxCalibration, Calibration, OperatingPoints, decide
from models.types import Decision, ScoredBox

POINTS = OperatingPoints(low=0.2, high=0.7, box_score=0.5)
STRONG, WEAK = (ScoredBox(1, 1, 9, 9, score) for score in (0.5, 0.4999))


@pytest.mark.parametrize(
    ("probability", "boxes", "decision"),
    [
        (0.7, [], Decision.PRESENT),
        (0.99, [STRONG], Decision.PRESENT),
        (0.6999, [STRONG], Decision.INCONCLUSIVE),
        (0.6999, [], Decision.INCONCLUSIVE),
        (0.2, [], Decision.INCONCLUSIVE),
        (0.1999, [], Decision.ABSENT),
        (0.1999, [WEAK], Decision.ABSENT),
        (0.1999, [STRONG], Decision.INCONCLUSIVE),
        (0.0, [WEAK, STRONG], Decision.INCONCLUSIVE),
    ],
)
def test_each_side_of_each_point_has_its_decision(probability: float, boxes: list, decision: Decision) -> None:
    assert decide(probability, boxes, POINTS) is decision


def test_the_probability_grows_with_both_networks_words() -> None:
    calibration = Calibration(intercept=-1.0, classifier_weight=0.5, detector_weight=0.5)

    base = calibration.probability(0.0, 0.3)

    assert calibration.probability(1.0, 0.3) > base
    assert calibration.probability(0.0, 0.6) > base


def test_known_coefficients_give_the_known_probability() -> None:
    calibration = Calibration(intercept=0.0, classifier_weight=1.0, detector_weight=1.0)

    assert calibration.probability(0.0, 0.5) == pytest.approx(0.5)
    assert calibration.probability(1.0986123, 0.5) == pytest.approx(0.75)
    assert calibration.probability(0.0, 0.75) == pytest.approx(0.75)


def test_the_detectors_evidence_is_its_best_box_or_the_chance_of_any() -> None:
    boxes = [ScoredBox(1, 1, 9, 9, score) for score in (0.5, 0.4, 0.1)]

    assert Calibration(0.0, 1.0, 1.0).evidence(boxes) == 0.5
    assert Calibration(0.0, 1.0, 1.0, any_box=True).evidence(boxes) == pytest.approx(1 - 0.5 * 0.6 * 0.9)
    assert [Calibration(0.0, 1.0, 1.0, any_box=any_box).evidence([]) for any_box in (False, True)] == [0, 0]


@pytest.mark.parametrize(("logit", "score"), [(1e9, 1.0), (-1e9, 0.0)])
def test_extreme_logits_and_scores_stay_probabilities(logit: float, score: float) -> None:
    assert 0.0 < Calibration(0.0, 1.0, 1.0).probability(logit, score) < 1.0


def test_a_weight_of_nought_silences_the_detector() -> None:
    calibration = Calibration(intercept=0.3, classifier_weight=1.0, detector_weight=0.0)

    assert calibration.probability(0.7, 0.0) == calibration.probability(0.7, 1.0)


def test_a_box_counts_for_less_where_the_classifier_sees_nothing() -> None:
    calibration = BoxCalibration(intercept=0.0, score_weight=1.0, classifier_weight=0.5)

    quiet, loud = (calibration.rescore(logit, [STRONG])[0].score for logit in (-2.0, 2.0))

    assert quiet == pytest.approx(1 / (1 + math.exp(1)))
    assert loud == pytest.approx(1 / (1 + math.exp(-1)))


def test_rescoring_keeps_corners_and_order() -> None:
    boxes = [ScoredBox(1, 2, 3, 4, score) for score in (1.0, 0.8, 0.3, 0.0)]

    rescored = BoxCalibration(-1.0, 0.6, 0.2).rescore(-3.0, boxes)

    scores = [box.score for box in rescored]
    assert scores == sorted(scores, reverse=True)
    assert {(box.x1, box.y1, box.x2, box.y2) for box in rescored} == {(1, 2, 3, 4)}
    assert all(0 < score < 1 for score in scores)
