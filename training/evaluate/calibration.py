"""From two networks' numbers to a probability and operating points, by rule, on images that taught neither network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.decision import BoxCalibration, Calibration, OperatingPoints, any_box_score, score_logit
from training.evaluate.metrics import match, rank
from training.evaluate.predictions import Prediction, boxes_of, probability_of

SENSITIVITY = 0.93
SPECIFICITY = 0.95
FALSE_BOXES_AN_IMAGE = 0.15
LARGEST_COEFFICIENT = 100.0  # models.manifest.Coefficient
RULE = (
    f"On the held-out images without truncated files: low = the highest probability that keeps sensitivity >= "
    f"{SENSITIVITY:.2f}; high = the lowest that keeps specificity >= {SPECIFICITY:.2f}; box_score = the lowest score "
    f"with at most {FALSE_BOXES_AN_IMAGE:.2f} false boxes an image; each in the middle between two images or boxes"
)


def calibrate(predictions: Sequence[Prediction]) -> Calibration:
    """Fit the logistic function of classifier logit and any box's score (Platt's method with two inputs).

    Three numbers from some three hundred images; a network whose weight comes out negative is left out. Where both do,
    the probability is the share of fractured images, whatever the networks say.

    References
    ----------
    J. Platt, "Probabilistic Outputs for Support Vector Machines", Advances in Large Margin Classifiers, 1999.
    """
    inputs = np.array([(item.logit, score_logit(any_box_score(item.boxes))) for item in predictions])
    truth = np.array([item.radiograph.fractured for item in predictions])
    intercept, weights = _fit(inputs, truth)
    if (weights < 0).any():
        kept = int(np.argmax(weights))
        intercept, alone = _fit(inputs[:, [kept]], truth)
        weights = np.zeros(2)
        weights[kept] = alone[0]
    if (weights < 0).any():
        share = truth.mean()
        intercept, weights = float(np.log(share / (1 - share))), np.zeros(2)
    return Calibration(intercept, float(weights[0]), float(weights[1]), calibrate_boxes(predictions), any_box=True)


def calibrate_boxes(predictions: Sequence[Prediction]) -> BoxCalibration | None:
    """Fit the chance that a box hits a true one (IoU 0.5) from its score and the classifier's logit.

    None where that makes no sense: no box or none but hits, or a fit that would turn the order of boxes around.
    """
    inputs, hits = [], []
    for item in predictions:
        image = boxes_of(item, 0.0)
        hits += match(image, 0.5).tolist()
        inputs += [(score_logit(score), item.logit) for score in np.sort(image.scores)[::-1]]
    if not 0 < sum(hits) < len(hits):
        return None
    intercept, weights = _fit(np.array(inputs), np.array(hits))
    return BoxCalibration(intercept, float(weights[0]), float(weights[1])) if weights[0] > 0 else None


def _fit(inputs: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, NDArray[np.float64]]:
    fitted = LogisticRegression(C=1e3, max_iter=1000).fit(inputs, truth)
    # A few images that two numbers tell apart would drive the coefficients beyond what a manifest may hold.
    bounded = np.clip([*fitted.intercept_, *fitted.coef_[0]], -LARGEST_COEFFICIENT, LARGEST_COEFFICIENT)
    return float(bounded[0]), np.asarray(bounded[1:], dtype=np.float64)


def choose_points(predictions: Sequence[Prediction], calibration: Calibration) -> OperatingPoints:
    """Apply RULE."""
    truth = np.array([item.radiograph.fractured for item in predictions])
    probability = np.array([probability_of(item, calibration) for item in predictions])
    low = sensitive_point(probability[truth], probability)
    high = max(low, specific_point(probability[~truth], probability))
    rescored = [replace(item, boxes=calibration.rescore(item.logit, item.boxes)) for item in predictions]
    return OperatingPoints(low=low, high=high, box_score=box_threshold(rescored))


def sensitive_point(of_fractured: NDArray[np.float64], of_all: NDArray[np.float64]) -> float:
    """Return the highest point that SENSITIVITY of the fractured images reach, halfway to the next image below.

    A point on an image would move it from one outcome to another with the last digit of an arithmetic. Numbers may be
    probabilities or logits.
    """
    reached = np.sort(of_fractured)[::-1][int(np.ceil(SENSITIVITY * len(of_fractured))) - 1]
    below = of_all[of_all < reached]
    return float((reached + below.max()) / 2) if len(below) else float(np.nextafter(reached, -np.inf))


def specific_point(of_normal: NDArray[np.float64], of_all: NDArray[np.float64]) -> float:
    """Return the lowest point that SPECIFICITY of the normal images stay below, halfway to the next image above."""
    below = np.sort(of_normal)[int(np.ceil(SPECIFICITY * len(of_normal))) - 1]
    above = of_all[of_all > below]
    return float((below + above.min()) / 2) if len(above) else float(np.nextafter(below, np.inf))


def box_threshold(predictions: Sequence[Prediction]) -> float:
    """Return the lowest score at which false boxes stay at or below FALSE_BOXES_AN_IMAGE, halfway to the next box."""
    ranking = rank([boxes_of(item, 0.0) for item in predictions])
    false = ranking.scores[~ranking.hits]  # best first
    allowed = int(FALSE_BOXES_AN_IMAGE * len(predictions))
    if len(false) <= allowed:
        return 0.05
    return float((false[allowed] + ranking.scores[ranking.scores > false[allowed]].min(initial=1.0)) / 2)
