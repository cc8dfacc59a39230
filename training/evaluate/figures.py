"""Every figure of a bundle on labelled images, as one tree of plain values for JSON, plots and the model card.

An interval stands beside its figure under the same name with `_95` (Wilson for shares, bootstrap for areas). A figure
that the images cannot give, such as an area with one class only, is None and never a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decision import Calibration, OperatingPoints, decide
from models.types import Decision
from training.data.dataset import BODY_PARTS, VIEWS, Radiograph
from training.evaluate.image_curves import precision_recall_area, precision_recall_points, roc_points
from training.evaluate.metrics import (
    BoxesOfImage,
    Ranking,
    auc,
    auc_interval,
    average_precision,
    average_precision_interval,
    brier,
    calibration_bins,
    calibration_error,
    found_at,
    found_at_intervals,
    free_response_points,
    match,
    mean_average_precision,
    points_at,
    rank,
    wilson,
)
from training.evaluate.predictions import Prediction, boxes_of, probability_of, rescored

FALSE_RATES = (0.1, 0.25, 0.5, 1.0)
SCORE_BINS = 20
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answers:
    """Truth and probability of each image, (n,) both, and a number for its patient where all are known."""

    truth: Flags
    probability: Floats
    patients: NDArray[np.intp] | None = None

    @property
    def has_both_classes(self) -> bool:
        """Whether there are fractured and normal images."""
        return bool(self.truth.any() and not self.truth.all())

    def of(self, chosen: Flags) -> Answers:
        """Return those of some images."""
        patients = None if self.patients is None else self.patients[chosen]
        return Answers(self.truth[chosen], self.probability[chosen], patients)


def answers_of(predictions: Sequence[Prediction], calibration: Calibration) -> Answers:
    """Put truth, calibrated probabilities and patients side by side."""
    truth = np.array([item.radiograph.fractured for item in predictions], dtype=bool)
    probability = np.array([probability_of(item, calibration) for item in predictions], dtype=np.float64)
    return Answers(truth, probability, _patients(predictions))


def _patients(predictions: Sequence[Prediction]) -> NDArray[np.intp] | None:
    words = [item.radiograph.patient for item in predictions]
    known = [word for word in words if word is not None]
    return np.unique(known, return_inverse=True)[1] if len(known) == len(words) else None


def measure(predictions: Sequence[Prediction], calibration: Calibration, points: OperatingPoints) -> dict[str, Any]:
    """Compute every figure: of images with their probability, of boxes with their calibrated scores."""
    answers = answers_of(predictions, calibration)
    truth, probability = answers.truth, answers.probability
    shown = [rescored(item, calibration) for item in predictions]
    decisions = [decide(p, item.boxes, points) for p, item in zip(probability, shown, strict=True)]
    boxes = measure_boxes(shown, points.box_score)
    if boxes is not None:
        boxes["map50_detector_alone"] = average_precision(
            [boxes_of(item, 0.0) for item in with_known_boxes(predictions)]
        )
    return {
        **at_both_points(answers, points),
        **_areas(predictions, answers, calibration),
        "calibration_error": calibration_error(truth, probability),
        "brier": brier(truth, probability),
        "patients": None if answers.patients is None else int(answers.patients.max()) + 1,
        "by_body_part": by_group(predictions, answers, points, (BODY_PARTS, lambda item: item.body_parts)),
        "by_view": by_group(predictions, answers, points, (VIEWS, lambda item: item.views)),
        "by_hardware": by_group(predictions, answers, points, (("yes", "no"), _hardware)),
        "decisions": tabulate(truth, decisions),
        "boxes": boxes,
        "seconds_median": float(np.median([item.seconds for item in predictions])),
        "curves": curves_of(shown, answers),
    }


def _areas(predictions: Sequence[Prediction], answers: Answers, calibration: Calibration) -> dict[str, float | None]:
    if not answers.has_both_classes:
        return dict.fromkeys(("auc_classifier_alone", "auc_detector_alone", "average_precision"))
    return {
        "auc_classifier_alone": auc(answers.truth, [item.logit for item in predictions]),
        "auc_detector_alone": auc(answers.truth, [calibration.evidence(item.boxes) for item in predictions]),
        "average_precision": precision_recall_area(answers.truth, answers.probability),
    }


def at_both_points(answers: Answers, points: OperatingPoints) -> dict[str, Any]:
    """Measure the probability as a ranking and as an answer at both operating points."""
    both = answers.has_both_classes
    area = auc(answers.truth, answers.probability) if both else None
    return {
        "images": len(answers.truth),
        "fractured": int(answers.truth.sum()),
        "auc": area,
        "auc_95": auc_interval(answers.truth, answers.probability, groups=answers.patients) if both else None,
        "low": at_point(answers.truth, answers.probability, points.low),
        "high": at_point(answers.truth, answers.probability, points.high),
    }


def at_point(truth: Flags, probability: Floats, point: float) -> dict[str, Any]:
    """Measure 'probability >= point' as an answer: the paper's four figures, sensitivity and specificity."""
    said = probability >= point
    hits, misses = int((said & truth).sum()), int((~said & truth).sum())
    alarms, silences = int((said & ~truth).sum()), int((~said & ~truth).sum())
    shares = {
        "accuracy": (hits + silences, len(truth)),
        "precision": (hits, hits + alarms),
        "recall": (hits, hits + misses),
        "sensitivity": (hits, hits + misses),
        "specificity": (silences, silences + alarms),
    }
    figures: dict[str, Any] = {"point": point, "f1": _share(2 * hits, 2 * hits + alarms + misses)}
    for name, (part, whole) in shares.items():
        figures[name] = _share(part, whole)
        figures[f"{name}_95"] = wilson(part, whole) if whole else None
    return figures


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


Grouping = tuple[Sequence[str], Callable[[Radiograph], Iterable[str]]]


def by_group(
    predictions: Sequence[Prediction], answers: Answers, points: OperatingPoints, grouping: Grouping
) -> dict[str, Any]:
    """Measure groups of images apart; an image may be in several, and groups without images are left out.

    `grouping` has the names that come first, in order, and the function that gives an image's groups.
    """
    first, groups_of = grouping
    groups = [set(groups_of(item.radiograph)) for item in predictions]
    others = sorted(set().union(*groups) - set(first))
    chosen = {name: np.array([name in each for each in groups], dtype=bool) for name in (*first, *others)}
    figures = {name: at_both_points(answers.of(mask), points) for name, mask in chosen.items() if mask.any()}
    for group in figures.values():
        # Where every draw gives the same, the bootstrap knows nothing of how far the area of a few images may be off.
        if group["auc"] in {0.0, 1.0}:
            group["auc_95"] = None
    return figures


def _hardware(item: Radiograph) -> Iterable[str]:
    return ("yes",) if item.hardware else ("no",)


def tabulate(truth: Flags, decisions: Sequence[Decision]) -> dict[str, dict[str, int]]:
    """Count decisions by truth."""
    return {
        name: {
            decision.value: sum(d is decision and bool(t) is wanted for d, t in zip(decisions, truth, strict=True))
            for decision in Decision
        }
        for name, wanted in (("fractured", True), ("normal", False))
    }


def with_known_boxes(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Leave out fractured images that nobody has drawn a box in: they say nothing of boxes."""
    return [item for item in predictions if item.radiograph.boxes_xyxy or not item.radiograph.fractured]


def measure_boxes(predictions: Sequence[Prediction], box_score: float) -> dict[str, Any] | None:
    """Measure the boxes over all images and over the fractured ones alone; None where nobody has drawn a box.

    A fractured image without a box is left out, and counted.
    """
    usable = with_known_boxes(predictions)
    images = [boxes_of(item, 0.0) for item in usable]
    fractured = [item for item in usable if item.radiograph.boxes_xyxy]
    if not fractured:
        return None
    positives = [boxes_of(item, 0.0) for item in fractured]
    return {
        "images": len(images),
        "boxes": sum(len(image.truth) for image in images),
        "fractured_images_without_a_box": len(predictions) - len(usable),
        "map50": average_precision(images),
        "map50_interval": average_precision_interval(images, _patients(usable)),
        "map50_95": mean_average_precision(images),
        "map50_fractured_images_only": average_precision(positives),
        "map50_fractured_images_only_interval": average_precision_interval(positives, _patients(fractured)),
        **_free_response("sensitivity_at_false_boxes_an_image", rank(images), usable),
        **_free_response("sensitivity_at_false_boxes_an_image_iou30_or_centre", rank(images, 0.3, points_at), usable),
        **_at_box_score([boxes_of(item, box_score) for item in usable], box_score),
    }


def _free_response(name: str, ranking: Ranking, predictions: Sequence[Prediction]) -> dict[str, Any]:
    rates = [str(rate) for rate in FALSE_RATES]
    intervals = found_at_intervals(ranking, FALSE_RATES, _patients(predictions))
    return {
        name: dict(zip(rates, found_at(ranking, FALSE_RATES), strict=True)),
        f"{name}_95": dict(zip(rates, intervals, strict=True)),
    }


def _at_box_score(shown: Sequence[BoxesOfImage], box_score: float) -> dict[str, Any]:
    found = sum(int(match(image, 0.5).sum()) for image in shown)
    boxes, true = sum(len(image.scores) for image in shown), sum(len(image.truth) for image in shown)
    return {
        "box_score": box_score,
        "false_boxes_an_image_at_box_score": (boxes - found) / len(shown),
        "sensitivity_at_box_score": found / true,
        "sensitivity_at_box_score_95": wilson(found, true),
    }


def curves_of(predictions: Sequence[Prediction], answers: Answers) -> dict[str, Any]:
    """Thin every curve to what a plot can show.

    `roc` [false, true positive rate], `precision_recall` [recall, precision], `free_response` [false boxes an image,
    share of true boxes found, score], `reliability` one entry a bin, `scores` counts of images by probability.
    """
    usable = with_known_boxes(predictions)
    boxed = any(item.radiograph.boxes_xyxy for item in usable)
    both = answers.has_both_classes
    truth, probability = answers.truth, answers.probability
    counts = {
        name: np.histogram(probability[chosen], SCORE_BINS, (0, 1))[0].tolist()
        for name, chosen in (("fractured", truth), ("normal", ~truth))
    }
    curves: dict[str, Sequence[Sequence[float]]] = {
        "roc": roc_points(truth, probability) if both else [],
        "precision_recall": precision_recall_points(truth, probability) if both else [],
        "free_response": free_response_points([boxes_of(item, 0.0) for item in usable]) if boxed else [],
    }
    rounded = {name: [[round(value, 5) for value in point] for point in points] for name, points in curves.items()}
    reliability = [asdict(entry) for entry in calibration_bins(truth, probability)]
    return {**rounded, "reliability": reliability, "scores": counts}
