"""From two networks' numbers to one probability and one decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.types import Decision, ScoredBox


@dataclass(frozen=True, slots=True)
class OperatingPoints:
    """`low` is the sensitive, `high` the specific point on the probability; `box_score` the score a finding needs."""

    low: float
    high: float
    box_score: float


@dataclass(frozen=True, slots=True)
class BoxCalibration:
    """A logistic function of a box's score and of the classifier's logit: the chance that the box shows a fracture.

    The classifier sees the whole image; where it sees nothing, a box must be the surer. The order of an image's boxes
    stays as it is, for `score_weight` is positive.
    """

    intercept: float
    score_weight: float
    classifier_weight: float

    def rescore(self, classifier_logit: float, boxes: Sequence[ScoredBox]) -> tuple[ScoredBox, ...]:
        """Return the boxes with their calibrated scores."""
        shift = self.intercept + self.classifier_weight * classifier_logit
        return tuple(replace(box, score=sigmoid(shift + self.score_weight * score_logit(box.score))) for box in boxes)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic function of the classifier's logit and of the detector's evidence, fitted on held-out images.

    A weight of nought leaves the network's word out of the probability. The detector's evidence is its best box's
    score, or with `any_box` the chance that any of its boxes is right. `boxes` calibrates the boxes' scores; without it
    they keep the detector's.
    """

    intercept: float
    classifier_weight: float
    detector_weight: float
    boxes: BoxCalibration | None = None
    any_box: bool = False

    def rescore(self, classifier_logit: float, boxes: Sequence[ScoredBox]) -> tuple[ScoredBox, ...]:
        """Return the boxes with the scores that decide and are shown, in the order they came in."""
        return self.boxes.rescore(classifier_logit, boxes) if self.boxes is not None else tuple(boxes)

    def evidence(self, boxes: Sequence[ScoredBox]) -> float:
        """Return the detector's evidence, 0..1, from all of its boxes as the detector scores them; 0 without one."""
        return any_box_score(boxes) if self.any_box else max((box.score for box in boxes), default=0.0)

    def probability(self, classifier_logit: float, evidence: float) -> float:
        """Return the probability of a fracture anywhere in the image; see `evidence`."""
        return sigmoid(
            self.intercept + self.classifier_weight * classifier_logit + self.detector_weight * score_logit(evidence)
        )


def any_box_score(boxes: Sequence[ScoredBox]) -> float:
    """Return the chance that any box is right, each taken on its own (a noisy or); several weak boxes add up."""
    return 1.0 - math.prod(1.0 - box.score for box in boxes)


def score_logit(score: float) -> float:
    """Return a score's logit; no single box may decide by an infinite one."""
    bounded = min(max(score, 1e-3), 1 - 1e-3)
    return math.log(bounded / (1 - bounded))


def sigmoid(logit: float) -> float:
    """Return the probability of a logit."""
    return 1 / (1 + math.exp(-min(max(logit, -30.0), 30.0)))


def decide(probability: float, boxes: Sequence[ScoredBox], points: OperatingPoints) -> Decision:
    """Present at or above the high point; absent below the low point without a box; inconclusive otherwise.

    Inconclusive covers both the space between the points and the disagreement of the networks: a probability below
    the low point beside a box whose score reaches the threshold. Boxes below the threshold count for nothing here.
    """
    if probability >= points.high:
        return Decision.PRESENT
    has_box = any(box.score >= points.box_score for box in boxes)
    if probability < points.low and not has_box:
        return Decision.ABSENT
    return Decision.INCONCLUSIVE
