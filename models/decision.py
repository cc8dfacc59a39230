"""From two networks' numbers to one probability and one decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.types import Decision, ScoredBox


@dataclass(frozen=True, slots=True)
class OperatingPoints:
    """`low` is the sensitive, `high` the specific point on the probability; `box_score` the score a finding needs."""

    low: float
    high: float
    box_score: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic function of the classifier's logit and of the best box's score, fitted on held-out images.

    A weight of nought leaves the network's word out of the probability.
    """

    intercept: float
    classifier_weight: float
    detector_weight: float

    def probability(self, classifier_logit: float, best_box_score: float) -> float:
        """Return the probability of a fracture anywhere in the image."""
        score = min(max(best_box_score, 1e-3), 1 - 1e-3)  # no single box may decide by an infinite logit
        logit = (
            self.intercept
            + self.classifier_weight * classifier_logit
            + self.detector_weight * math.log(score / (1 - score))
        )
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
