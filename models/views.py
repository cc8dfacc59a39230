"""Look at an image more than once, mirrored or at another size, and let the looks agree on their boxes.

References
----------
R. Solovyev, W. Wang, T. Gabruseva, "Weighted boxes fusion: Ensembling boxes from different object detection models",
Image and Vision Computing 107, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.types import ScoredBox

FloatArray = NDArray[np.float32]
# Boxes of several looks that overlap so far are one finding.
SAME_FINDING_IOU = 0.5
# Fewer candidates than one network gives by itself would cost recall; more are noise.
MOST_BOXES = 30


@dataclass(frozen=True, slots=True)
class View:
    """One look at an image: its longest side in pixels, and whether it is mirrored left to right."""

    longest_side: int
    mirrored: bool = False


def mirror(pixels: FloatArray) -> FloatArray:
    """Mirror an image (rows, columns) left to right."""
    return np.ascontiguousarray(pixels[:, ::-1])


def mirror_boxes(boxes: Sequence[ScoredBox], columns: int) -> list[ScoredBox]:
    """Bring boxes of a mirrored image of so many columns back to the image itself."""
    return [ScoredBox(columns - box.x2, box.y1, columns - box.x1, box.y2, box.score) for box in boxes]


def fuse(looks: Sequence[Sequence[ScoredBox]]) -> tuple[ScoredBox, ...]:
    """Fuse the boxes of several looks, best first; one look's boxes come back as they are.

    A finding's corners are the mean of its boxes' corners, weighted by score; its score is their sum divided by the
    number of looks, so that what one look alone has seen counts as little as it should.
    """
    if len(looks) == 1:
        return tuple(looks[0])
    findings: list[list[ScoredBox]] = []
    for box in sorted((box for look in looks for box in look), key=lambda box: -box.score):
        overlaps = [_iou(_mean(finding), box) for finding in findings]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best >= 0 and overlaps[best] >= SAME_FINDING_IOU and len(findings[best]) < len(looks):
            findings[best].append(box)
        else:
            findings.append([box])
    fused = [_mean(finding, sum(box.score for box in finding) / len(looks)) for finding in findings]
    return tuple(sorted(fused, key=lambda box: -box.score)[:MOST_BOXES])


def _mean(finding: Sequence[ScoredBox], score: float = 0.0) -> ScoredBox:
    weights = np.array([max(box.score, 1e-6) for box in finding])
    corners = np.array([(box.x1, box.y1, box.x2, box.y2) for box in finding])
    x1, y1, x2, y2 = np.average(corners, axis=0, weights=weights).tolist()
    return ScoredBox(x1, y1, x2, y2, score)


def _iou(one: ScoredBox, other: ScoredBox) -> float:
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box.x2 - box.x1) * (box.y2 - box.y1) for box in (one, other)]
    return width * height / (sum(areas) - width * height)
