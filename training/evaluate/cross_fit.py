"""What a bundle's figures would be if calibration and operating points had not seen the images they are measured on.

The held-out images are cut into folds; each fold is judged by what was fitted on the others. The networks stay as they
are: that they were chosen by such figures, among others, this cannot take back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

from training.evaluate.calibration import calibrate, choose_points
from training.evaluate.metrics import auc, auc_interval, average_precision, wilson
from training.evaluate.predictions import Prediction, boxes_of, probability_of, rescored

FOLDS = 10
SEED = 0


def cross_fitted(predictions: Sequence[Prediction]) -> dict[str, Any] | None:
    """Measure AUC, sensitivity and specificity at both points and mAP50; None where a class has too few images."""
    truth = np.array([item.radiograph.fractured for item in predictions])
    if min(truth.sum(), (~truth).sum()) < FOLDS:
        return None
    probability = np.zeros(len(truth))
    said = {"low": np.zeros(len(truth), dtype=bool), "high": np.zeros(len(truth), dtype=bool)}
    shown = list(predictions)
    for others, fold in StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(truth, truth):
        seen = [predictions[index] for index in others]
        calibration = calibrate(seen)
        points = choose_points(seen, calibration)
        for index in fold:
            probability[index] = probability_of(predictions[index], calibration)
            shown[index] = rescored(predictions[index], calibration)
            for name, each in said.items():
                each[index] = probability[index] >= getattr(points, name)
    return {
        "folds": FOLDS,
        "auc": auc(truth, probability),
        "auc_95": auc_interval(truth, probability),
        **{name: _shares(truth, each) for name, each in said.items()},
        "map50": average_precision([boxes_of(item, 0.0) for item in shown]),
    }


def _shares(truth: np.ndarray[Any, Any], said: np.ndarray[Any, Any]) -> dict[str, Any]:
    hits, silences = int((said & truth).sum()), int((~said & ~truth).sum())
    positives, negatives = int(truth.sum()), int((~truth).sum())
    return {
        "sensitivity": hits / positives,
        "sensitivity_95": wilson(hits, positives),
        "specificity": silences / negatives,
        "specificity_95": wilson(silences, negatives),
    }
