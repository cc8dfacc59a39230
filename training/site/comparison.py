"""Old against new on the part that neither has seen: the same images, so the difference has an interval of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest
from training.evaluate.figures import measure
from training.evaluate.metrics import auc
from training.evaluate.predictions import Prediction, probability_of

ROUNDS = 2000
# Below so many fractured images an interval is wider than any difference worth having.
FEW_FRACTURED = 30


def compare(
    old: Sequence[Prediction], new: Sequence[Prediction], manifests: tuple[Manifest, Manifest]
) -> dict[str, Any]:
    """Measure two bundles on the same images, in the same order, each with its own calibration and points.

    Returns
    -------
    dict
        `old` and `new` (every figure of `training.evaluate.figures.measure` but its curves), `auc_difference` and its
        95 % interval, `verdict` ('better', 'worse' or 'no difference shown'), `few_images` (too few to tell).
    """
    figures = [_figures(items, manifest) for items, manifest in zip((old, new), manifests, strict=True)]
    truth = np.array([item.radiograph.fractured for item in old])
    answers = [
        np.array([probability_of(item, manifest.calibration.build()) for item in items])
        for items, manifest in zip((old, new), manifests, strict=True)
    ]
    interval = difference_interval(truth, answers[0], answers[1], [item.radiograph.patient or "" for item in old])
    return {
        "old": {"version": manifests[0].version, **figures[0]},
        "new": {"version": manifests[1].version, **figures[1]},
        "auc_difference": auc(truth, answers[1]) - auc(truth, answers[0]),
        "auc_difference_95": interval,
        "verdict": verdict(interval),
        "few_images": bool(truth.sum() < FEW_FRACTURED),
    }


def _figures(predictions: Sequence[Prediction], manifest: Manifest) -> dict[str, Any]:
    figures = measure(predictions, manifest.calibration.build(), manifest.decision.build())
    return {name: value for name, value in figures.items() if name != "curves"}


def difference_interval(
    truth: NDArray[np.bool_],
    old: NDArray[np.float64],
    new: NDArray[np.float64],
    patients: Sequence[str],
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of AUC(new) - AUC(old) by paired bootstrap over patients, with and without a fracture apart."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, patient in enumerate(patients):
        members[patient].append(index)
    groups = [np.array(group) for group in members.values()]
    strata = [[group for group in groups if truth[group].any() == fractured] for fractured in (True, False)]
    random = np.random.default_rng(seed)
    differences: list[float] = []
    while len(differences) < ROUNDS:
        drawn = np.concatenate(
            [stratum[i] for stratum in strata for i in random.integers(len(stratum), size=len(stratum))]
        )
        if truth[drawn].all():  # patients with a fracture only have normal images too, where this cannot happen
            continue
        differences.append(auc(truth[drawn], new[drawn]) - auc(truth[drawn], old[drawn]))
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def verdict(interval: tuple[float, float]) -> str:
    """Put an interval of a difference into words."""
    if interval[0] > 0:
        return "better"
    return "worse" if interval[1] < 0 else "no difference shown"


def rows(comparison: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return a table's rows: figure, old, new."""
    old, new = comparison["old"], comparison["new"]
    table = [("AUC (95 % interval)", _with(old, "auc"), _with(new, "auc"))]
    table += [
        (f"{kind} at the {word} point", _with(old[point], kind), _with(new[point], kind))
        for point, word in (("low", "sensitive"), ("high", "specific"))
        for kind in ("sensitivity", "specificity")
    ]
    table.append(("calibration error", f"{old['calibration_error']:.3f}", f"{new['calibration_error']:.3f}"))
    if old["boxes"] and new["boxes"]:
        table += [
            (title, f"{old['boxes'][name]:.3f}", f"{new['boxes'][name]:.3f}")
            for title, name in (
                ("mAP50", "map50"),
                ("true boxes found at the box threshold", "sensitivity_at_box_score"),
                ("false boxes an image at the box threshold", "false_boxes_an_image_at_box_score"),
            )
        ]
    return table


def _with(figures: dict[str, Any], name: str) -> str:
    if figures[name] is None:
        return "-"
    low, high = figures[f"{name}_95"]
    return f"{figures[name]:.3f} ({low:.3f} to {high:.3f})"
