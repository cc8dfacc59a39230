"""Figures for images and boxes, with their uncertainty; every function is small enough to check by hand.

An image's figures take `labels` (n,) and `scores` (n,), higher is more suspicious. Intervals by bootstrap draw images,
or, where `groups` (n,) names each image's patient, patients: images of one patient are no independent evidence. Numpy
alone, so that a training needs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Interval = tuple[float, float]
BoxSimilarity = Callable[[Floats, Floats], Floats]
ROUNDS = 2000
DRAWS_AT_ONCE = 100
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


def auc_interval(
    labels: ArrayLike, scores: ArrayLike, seed: int = 0, rounds: int = ROUNDS, groups: ArrayLike | None = None
) -> Interval:
    """95 % interval of the AUC by bootstrap: positives and negatives drawn apart, or whole groups."""
    truth = np.asarray(labels, dtype=bool)
    draws = _draws(truth, groups, seed, rounds)
    return percentiles(np.concatenate([_aucs(truth, scores, weights) for weights in draws]))


def auc_difference_interval(
    labels: ArrayLike, scores: ArrayLike, others: ArrayLike, groups: ArrayLike | None = None, seed: int = 0
) -> Interval:
    """95 % interval of AUC(scores) - AUC(others) on the same images, both read from the same draws."""
    truth = np.asarray(labels, dtype=bool)
    draws = _draws(truth, groups, seed, ROUNDS)
    return percentiles(np.concatenate([_aucs(truth, scores, w) - _aucs(truth, others, w) for w in draws]))


def _draws(truth: Flags, groups: ArrayLike | None, seed: int, rounds: int) -> Iterator[NDArray[np.intp]]:
    """Yield draws a hundred at a time, (100, n): how often each has drawn each image; all have both classes."""
    random = np.random.default_rng(seed)
    for first in range(0, rounds, DRAWS_AT_ONCE):
        count = min(DRAWS_AT_ONCE, rounds - first)
        if groups is not None:
            weights = _multinomial(random, int(_numbered(groups).max()) + 1, count)[:, _numbered(groups)]
            yield weights[(weights[:, truth].sum(axis=1) > 0) & (weights[:, ~truth].sum(axis=1) > 0)]
            continue
        weights = np.empty((count, len(truth)), dtype=np.intp)
        for chosen in (truth, ~truth):
            weights[:, chosen] = _multinomial(random, int(chosen.sum()), count)
        yield weights


def _multinomial(random: np.random.Generator, size: int, count: int) -> NDArray[np.intp]:
    return random.multinomial(size, np.full(size, 1 / size), count).astype(np.intp)


def _aucs(truth: Flags, scores: ArrayLike, weights: NDArray[np.intp]) -> Floats:
    """Return the AUC of each row of weights (how often each image counts): `auc`, many at once."""
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    positives, negatives = (
        np.add.reduceat(weights[:, order] * chosen[order], starts, axis=1) for chosen in (truth, ~truth)
    )
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return np.asarray((positives * below).sum(axis=1) / (positives.sum(axis=1) * negatives.sum(axis=1)))


def _numbered(groups: ArrayLike) -> NDArray[np.intp]:
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def percentiles(values: Sequence[float] | Floats) -> Interval:
    """Return the 2.5th and 97.5th percentile."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def thin(count: int, most: int) -> NDArray[np.intp]:
    """Choose at most so many of `count` positions, evenly, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean square of probability minus truth: 0 is perfect, 0.25 is what 'one half' gets always."""
    return float(np.mean((np.asarray(probabilities, dtype=np.float64) - np.asarray(labels, dtype=np.float64)) ** 2))


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The images whose probability falls into one bin: how many, their mean probability, their share of positives."""

    images: int
    mean_probability: float
    share: float


def calibration_bins(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> list[CalibrationBin]:
    """Sort images into bins of equal width over 0..1; empty bins are left out."""
    truth, probability = np.asarray(labels, dtype=bool), np.asarray(probabilities, dtype=np.float64)
    index = np.minimum((probability * bins).astype(int), bins - 1)
    chosen = [index == number for number in np.unique(index)]
    return [CalibrationBin(int(c.sum()), float(probability[c].mean()), float(truth[c].mean())) for c in chosen]


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Mean distance of probability and share of positives over the bins, weighted by their images."""
    found = calibration_bins(labels, probabilities, bins)
    gaps = [entry.images * abs(entry.mean_probability - entry.share) for entry in found]
    return float(np.sum(gaps) / sum(entry.images for entry in found))


def wilson(successes: int, trials: int) -> Interval:
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


def points_at(boxes: Floats, others: Floats) -> Floats:
    """IoU of boxes (n, 4) with others (m, 4), plus 1 where a box's centre lies in the other one: (n, m), 0..2.

    With a threshold of 0.3 a box counts that overlaps so much or that leads a reader's eye into the true box.
    """
    centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    inside = ((centres >= others[None, :, :2]) & (centres <= others[None, :, 2:])).all(axis=2)
    return iou(boxes, others) + inside


def match(image: BoxesOfImage, threshold: float, likeness: BoxSimilarity = iou) -> Flags:
    """Say for each found box, best score first, whether it hits a true box that no better one has hit (COCO's rule)."""
    order = np.argsort(-image.scores, kind="stable")
    overlaps = likeness(image.boxes[order], image.truth)
    free = np.ones(len(image.truth), dtype=bool)
    hits = np.zeros(len(order), dtype=bool)
    for row, overlap in enumerate(overlaps):
        candidates = np.where(free, overlap, -1.0)
        if len(candidates) and candidates.max() >= threshold:
            free[int(candidates.argmax())] = False
            hits[row] = True
    return hits


@dataclass(frozen=True, slots=True)
class Ranking:
    """The boxes of all images, best score first, at one IoU.

    `hits`, `scores` and `owners` (the box's image, by number) have one entry a box; `truths` has the number of true
    boxes of each image.
    """

    hits: Flags
    scores: Floats
    owners: NDArray[np.intp]
    truths: NDArray[np.intp]


def rank(images: Sequence[BoxesOfImage], threshold: float = 0.5, likeness: BoxSimilarity = iou) -> Ranking:
    """Match the boxes of each image, then order all of them by score (ties in the order of the images)."""
    scores = np.concatenate([np.empty(0), *(np.sort(image.scores)[::-1] for image in images)])
    hits = np.concatenate([np.empty(0, dtype=bool), *(match(image, threshold, likeness) for image in images)])
    owners = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])
    order = np.argsort(-scores, kind="stable")
    truths = np.array([len(image.truth) for image in images], dtype=np.intp)
    return Ranking(hits[order], scores[order], owners[order], truths)


def precision_area(ranking: Ranking, weights: NDArray[np.intp] | None = None) -> float:
    """COCO's average precision: precision made monotone, read at 101 recalls.

    `weights` says how often each image counts: a draw of a bootstrap without its copies.
    """
    counts = np.ones(len(ranking.truths), dtype=np.intp) if weights is None else weights
    positives = int((ranking.truths * counts).sum())
    if positives == 0:
        raise ValueError("average precision needs at least one true box")
    each = counts[ranking.owners]
    found, total = np.cumsum(each * ranking.hits), np.cumsum(each)
    if len(found) == 0:
        return 0.0
    precision = np.maximum.accumulate((found / np.maximum(1, total))[::-1])[::-1]
    at = np.searchsorted(found / positives, np.linspace(0, 1, 101), side="left")
    return float(np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0).mean())


def average_precision(images: Sequence[BoxesOfImage], threshold: float = 0.5) -> float:
    """COCO's average precision of one class at one IoU."""
    return precision_area(rank(images, threshold))


def mean_average_precision(images: Sequence[BoxesOfImage]) -> float:
    """Mean of the average precision over IoU 0.50, 0.55 .. 0.95 (COCO's mAP)."""
    return float(np.mean([average_precision(images, threshold) for threshold in np.linspace(0.5, 0.95, 10)]))


def average_precision_interval(
    images: Sequence[BoxesOfImage], groups: ArrayLike | None = None, seed: int = 0, rounds: int = ROUNDS
) -> Interval:
    """95 % interval of the average precision at IoU 0.5 by bootstrap over images or groups; see `auc_interval`."""
    ranking = rank(images)
    return percentiles([precision_area(ranking, each) for each in _weights_of(ranking, groups, seed, rounds)])


def _weights_of(ranking: Ranking, groups: ArrayLike | None, seed: int, rounds: int) -> list[NDArray[np.intp]]:
    """Draw how often each image counts in each round of a bootstrap, rounds without a true box left out."""
    numbers = np.arange(len(ranking.truths)) if groups is None else _numbered(groups)
    weights = _multinomial(np.random.default_rng(seed), int(numbers.max()) + 1, rounds)[:, numbers]
    return [each for each in weights if (ranking.truths * each).any()]


def free_response(
    images: Sequence[BoxesOfImage], rates: Sequence[float], threshold: float = 0.5, likeness: BoxSimilarity = iou
) -> list[float]:
    """Share of true boxes found while false boxes stay at or below so many an image (free-response curve)."""
    return found_at(rank(images, threshold, likeness), rates)


def found_at(ranking: Ranking, rates: Sequence[float], weights: NDArray[np.intp] | None = None) -> list[float]:
    """Share of true boxes found at each rate of false boxes an image; `weights` as for `precision_area`."""
    counts = np.ones(len(ranking.truths), dtype=np.intp) if weights is None else weights
    each = counts[ranking.owners]
    false, found = np.cumsum(each * ~ranking.hits), np.cumsum(each * ranking.hits)
    allowed = [int(np.searchsorted(false, rate * counts.sum(), side="right")) for rate in rates]
    return [float(found[count - 1] / (ranking.truths * counts).sum()) if count else 0.0 for count in allowed]


def found_at_intervals(
    ranking: Ranking, rates: Sequence[float], groups: ArrayLike | None = None, seed: int = 0, rounds: int = ROUNDS
) -> list[Interval]:
    """95 % intervals of `found_at` by bootstrap over images or groups; see `auc_interval`."""
    draws = _weights_of(ranking, groups, seed, rounds)
    return [percentiles(shares) for shares in zip(*(found_at(ranking, rates, each) for each in draws), strict=True)]


def free_response_points(images: Sequence[BoxesOfImage], most: int = 60) -> list[tuple[float, float, float]]:
    """Points of the whole free-response curve at IoU 0.5, at most so many: false boxes an image, share found, score.

    A point stands wherever the next box is the first false one after a hit, so that the curve's steps are kept.
    """
    ranking = rank(images)
    false, found = np.cumsum(~ranking.hits) / len(images), np.cumsum(ranking.hits) / ranking.truths.sum()
    corners = np.flatnonzero(ranking.hits & ~np.append(ranking.hits[1:], False))
    corners = np.union1d(corners, np.arange(len(found))[-1:])
    kept = corners[thin(len(corners), most)] if len(corners) else corners
    return [(float(false[at]), float(found[at]), float(ranking.scores[at])) for at in kept]
