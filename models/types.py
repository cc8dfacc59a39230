"""The words this package shares with its callers.

Images are float32 arrays of shape (rows, columns) in 0..1 where 1 is bright bone. Boxes are in pixels of the image
that was given: x along the columns, y along the rows, (0, 0) the top left corner of the first pixel, (columns, rows)
the bottom right corner of the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
    score is the best box's, 0 where there is none or the bundle did not ask the detector.
    """

    probability: float
    boxes: tuple[ScoredBox, ...]
    decision: Decision
    seconds: float
    classifier_probability: float | None = None
    detector_score: float | None = None


class ModelError(Exception):
    """Base of all errors of models. Messages are one line of words for an operator."""


class BundleError(ModelError):
    """A bundle is missing, malformed, of an unknown version or does not match its checksums."""


class ImageError(ModelError):
    """A picture file cannot become an array, or an array cannot be analysed."""
