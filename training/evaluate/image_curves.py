"""Curves of an image's score against the truth by scikit-learn: labels (n,), scores (n,), higher = more suspicious."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from training.evaluate.metrics import thin

Points = list[tuple[float, float]]


def precision_recall_area(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under precision against recall without interpolation (average precision of images)."""
    truth = np.asarray(labels, dtype=bool)
    if not truth.any() or truth.all():
        raise ValueError("average precision needs both classes")
    return float(average_precision_score(truth, np.asarray(scores, dtype=np.float64)))


def roc_points(labels: ArrayLike, scores: ArrayLike, most: int = 100) -> Points:
    """Return corners of the ROC curve, (0, 0) to (1, 1): false and true positive rate; at most so many."""
    false, true, _ = roc_curve(np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64))
    return [(float(false[at]), float(true[at])) for at in thin(len(false), most)]


def precision_recall_points(labels: ArrayLike, scores: ArrayLike, most: int = 100) -> Points:
    """Return points (recall, precision), recall rising; at most so many."""
    precision, recall, _ = precision_recall_curve(
        np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64), drop_intermediate=True
    )
    return [(float(recall[at]), float(precision[at])) for at in thin(len(recall), most)[::-1]]
