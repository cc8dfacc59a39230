"""Figures as rows of words, for the model card, the models report and the screen; what is not known is a dash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]
Row = tuple[str, ...]
NONE = "-"
POINTS = (("sensitive", "low"), ("specific", "high"))
GROUPS = (("by_body_part", "part of the body"), ("by_view", "view"), ("by_hardware", "metal in the image"))
GROUP_HEAD = (
    "images",
    "fractured",
    "AUC",
    "sensitivity, sensitive point",
    "specificity, sensitive point",
    "sensitivity, specific point",
    "specificity, specific point",
)

FALSE_BOXES = "sensitivity_at_false_boxes_an_image"
FALSE_BOXES_NEAR = f"{FALSE_BOXES}_iou30_or_centre"


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """Return a table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure, or a dash."""
    return NONE if value is None else f"{value:.{digits}f}"


def with_interval(figures: Figures, name: str, interval: str | None = None) -> str:
    """Return a figure with its 95 % interval where there is one (`<name>_95` unless named)."""
    between = figures.get(interval or f"{name}_95")
    value = number(figures.get(name))
    return value if between is None else f"{value} ({between[0]:.3f} to {between[1]:.3f})"


def image_rows(figures: Figures) -> list[Row]:
    """Tell how well images are judged."""
    rows: list[Row] = [
        ("images (fractured)", f"{figures['images']} ({figures['fractured']})"),
        ("AUC", with_interval(figures, "auc")),
        (
            "AUC, classifier alone / detector alone",
            f"{number(figures['auc_classifier_alone'])} / {number(figures['auc_detector_alone'])}",
        ),
    ]
    if "average_precision" in figures:
        rows.append(("average precision (area under precision and recall)", number(figures["average_precision"])))
    for name, key in POINTS:
        at = figures[key]
        rows += [
            (f"{kind} at the {name} point {at['point']:.3f}", with_interval(at, kind))
            for kind in ("sensitivity", "specificity")
        ]
        rows.append((f"accuracy, precision, recall, F1 at the {name} point", four(at)))
    rows.append(("expected calibration error", number(figures["calibration_error"])))
    if "brier" in figures:
        rows.append(("Brier score", number(figures["brier"])))
    return rows


def four(at: Figures) -> str:
    """Return the paper's four figures at an operating point: accuracy, precision, recall, F1."""
    return ", ".join(number(at[kind]) for kind in ("accuracy", "precision", "recall", "f1"))


def box_rows(boxes: Figures | None) -> list[Row]:
    """Tell how well boxes are found (IoU 0.5 unless it says otherwise); nothing where nobody has drawn any."""
    if boxes is None:
        return []
    rows: list[Row] = [
        ("mAP50, all images", with_interval(boxes, "map50", "map50_interval")),
        (
            "mAP50, fractured images only",
            with_interval(boxes, "map50_fractured_images_only", "map50_fractured_images_only_interval"),
        ),
        ("mAP50:95, all images", number(boxes["map50_95"])),
        ("true boxes found at so many false boxes an image", at_rates(boxes, FALSE_BOXES)),
        (
            f"at the box threshold {boxes['box_score']:.2f}",
            f"{boxes['sensitivity_at_box_score']:.2f} of true boxes, "
            f"{boxes['false_boxes_an_image_at_box_score']:.2f} false boxes an image",
        ),
    ]
    if FALSE_BOXES_NEAR in boxes:
        near = "the same, where IoU 0.3 or a centre inside the true box is enough"
        rows.insert(4, (near, at_rates(boxes, FALSE_BOXES_NEAR)))
    if "map50_detector_alone" in boxes:
        rows.insert(2, ("mAP50, all images, detector's own scores", number(boxes["map50_detector_alone"])))
    if left_out := boxes.get("fractured_images_without_a_box"):
        rows.append(("fractured images left out of these, without a box", str(left_out)))
    return rows


def at_rates(boxes: Figures, name: str) -> str:
    """Return the share of true boxes found at each rate of false boxes an image, with intervals where there are."""
    between = {rate: f" ({low:.2f} to {high:.2f})" for rate, (low, high) in boxes.get(f"{name}_95", {}).items()}
    return ", ".join(f"{share:.2f}{between.get(rate, '')} at {rate}" for rate, share in boxes[name].items())


def group_rows(groups: Figures) -> list[Row]:
    """Tell the figures of groups of images, one row a group under `GROUP_HEAD`."""
    return [
        (
            name,
            str(entry["images"]),
            str(entry["fractured"]),
            with_interval(entry, "auc"),
            *(with_interval(entry.get(key, {}), kind) for _, key in POINTS for kind in ("sensitivity", "specificity")),
        )
        for name, entry in groups.items()
    ]


def decision_rows(figures: Figures) -> tuple[Row, list[Row]]:
    """Tell how often which outcome was given, by truth: head and rows."""
    counts = figures["decisions"]
    names = list(counts["fractured"])
    return ("truth", *names), [(truth, *(str(counts[truth][name]) for name in names)) for truth in counts]


def cost_rows(cost: Figures) -> list[Row]:
    """Tell what an image costs, and on what that was measured."""
    where = f"{cost['device']}, {cost['dtype']}, {cost['threads']} threads"
    return [
        ("seconds an image, median", number(cost["seconds_median"])),
        ("seconds an image, 95th percentile", number(cost["seconds_95th_percentile"])),
        ("memory of the process at its peak", f"{cost['peak_memory_mib']} MiB"),
        ("measured on", where),
    ]
