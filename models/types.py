"""The words this package shares with its callers.

Images are float32 arrays of shape (rows, columns) in 0..1 where 1 is bright bone. Boxes are in pixels of the image
that was given: x along the columns, y along the rows, (0, 0) the top left corner of the first pixel, (columns, rows)
the bottom right corner of the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

UNLIKE = "unlike the images that this model was trained on"


class Decision(StrEnum):
    """What the model says of one image."""

    PRESENT = "present"
    INCONCLUSIVE = "inconclusive"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class ScoredBox:
    """A candidate fracture: corners in pixels of the given image (x1 < x2, y1 < y2), score in 0..1."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float


@dataclass(frozen=True, slots=True)
class ImageAnalysis:
    """The answer for one image.

    `probability` is the calibrated probability of a fracture anywhere in the image; `boxes` are those at or above the
    score threshold in force, best first; `decision` follows the bundle's operating points; `seconds` is wall time.
    `classifier_probability` and `detector_score` are what either network says by itself, before any calibration; the
    score is the best box's, 0 where there is none or the bundle did not ask the detector. `unlikeness` says how unlike
    the training images the image is (`models.unlikeness`), None where the bundle has no measure; above 1 the decision
    is inconclusive, whatever the networks say.
    """

    probability: float
    boxes: tuple[ScoredBox, ...]
    decision: Decision
    seconds: float
    classifier_probability: float | None = None
    detector_score: float | None = None
    unlikeness: float | None = None

    @property
    def reason(self) -> str | None:
        """Return why the answer is none, in words: the image is unlike those that the model was trained on."""
        return UNLIKE if is_unlike(self.unlikeness) else None


def is_unlike(unlikeness: float | None) -> bool:
    """Say whether a measure of unlikeness is above its limit; without a measure nothing is known to be unlike."""
    return unlikeness is not None and not unlikeness <= 1.0


class ModelError(Exception):
    """Base of all errors of models. Messages are one line of words for an operator."""


class BundleError(ModelError):
    """A bundle is missing, malformed, of an unknown version or does not match its checksums."""


class ImageError(ModelError):
    """A picture file cannot become an array, or an array cannot be analysed."""
