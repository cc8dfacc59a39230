"""Figures for images and boxes, with their uncertainty. Pure numpy; every function is small enough to check by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class BoxesOfImage:
    """What was found and what is there in one image: boxes (n, 4) xyxy, scores (n,), truth (m, 4)."""

    boxes: Floats
    scores: Floats
    truth: Floats


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half."""
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        raise ValueError("the area under the ROC curve needs both classes")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auc_interval(labels: ArrayLike, scores: ArrayLike, seed: int = 0, rounds: int = 2000) -> tuple[float, float]:
    """95 % interval of the AUC by bootstrap over images, positives and negatives drawn apart."""
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    random = np.random.default_rng(seed)
    positives, negatives = np.flatnonzero(truth), np.flatnonzero(~truth)
    areas = []
    for _ in range(rounds):
        drawn = np.concatenate([random.choice(positives, len(positives)), random.choice(negatives, len(negatives))])
        areas.append(auc(truth[drawn], values[drawn]))
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion."""
    if trials == 0:
        return 0.0, 1.0
    share, weight = successes / trials, Z95**2 / trials
    middle = (share + weight / 2) / (1 + weight)
    half = Z95 / (1 + weight) * np.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def iou(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union of boxes (n, 4) with others (m, 4), xyxy: (n, m)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(group[:, 2:] - group[:, :2], 0, None).prod(axis=1) for group in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def match(image: BoxesOfImage, threshold: float) -> NDArray[np.bool_]:
    """Say for each found box, best score first, whether it hits a true box that no better one has hit (COCO's rule)."""
    order = np.argsort(-image.scores, kind="stable")
    overlaps = iou(image.boxes[order], image.truth)
    free = np.ones(len(image.truth), dtype=bool)
    hits = np.zeros(len(order), dtype=bool)
    for row, overlap in enumerate(overlaps):
        candidates = np.where(free, overlap, -1.0)
        if len(candidates) and candidates.max() >= threshold:
            free[int(candidates.argmax())] = False
            hits[row] = True
    return hits


def average_precision(images: Sequence[BoxesOfImage], threshold: float = 0.5) -> float:
    """COCO's average precision of one class at one IoU: precision made monotone, read at 101 recalls."""
    positives = sum(len(image.truth) for image in images)
    if positives == 0:
        raise ValueError("average precision needs at least one true box")
    scores = np.concatenate([np.sort(image.scores)[::-1] for image in images])
    hits = np.concatenate([match(image, threshold) for image in images])
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(hits[order])
    if len(found) == 0:
        return 0.0
    recall = found / positives
    precision = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0).mean())


def mean_average_precision(images: Sequence[BoxesOfImage]) -> float:
    """Mean of the average precision over IoU 0.50, 0.55 .. 0.95 (COCO's mAP)."""
    return float(np.mean([average_precision(images, threshold) for threshold in np.linspace(0.5, 0.95, 10)]))


def free_response(images: Sequence[BoxesOfImage], rates: Sequence[float], threshold: float = 0.5) -> list[float]:
    """Share of true boxes found while false boxes stay at or below so many an image (free-response curve)."""
    scores = np.concatenate([np.sort(image.scores)[::-1] for image in images])
    hits = np.concatenate([match(image, threshold) for image in images])
    order = np.argsort(-scores, kind="stable")
    positives = sum(len(image.truth) for image in images)
    false, found = np.cumsum(~hits[order]), np.cumsum(hits[order])
    allowed = [int(np.searchsorted(false, rate * len(images), side="right")) for rate in rates]
    return [float(found[count - 1] / positives) if count else 0.0 for count in allowed]
