"""The model card `README.md`, written from a bundle's manifest so that no figure is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.manifest import Manifest

HEADS = {
    "vgg16_pooled": "block 5 as ImageNet left it, a perceptron on the pooled map",
    "vgg16_location_map": "block 5 with a pooling head and a location map taught by boxes",
}
LIMITS = """\
- One collection from three hospitals in one country is all it has seen; on other devices, other parts of the body
  (skull, spine, chest, ribs), children's growth plates, casts and implants its answers are not to be trusted. FracAtlas
  does not give ages.
- It misses fractures. The table says how many; "absent" is never a reason not to look.
- Nearly all images with metal in the collection show a fracture: metal alone may raise the probability.
- The probability is calibrated on valid, where a quarter of the images is fractured; where fractures are rarer the true
  share is lower.
- Heads, training length, calibration, operating points and box threshold were chosen on the very block that the figures
  come from; expect somewhat less on new images.
- 58 normal images of valid end early (a grey band at the bottom). The product refuses such files; figures with them are
  given for completeness only."""


def write_card(manifest: Manifest, path: Path) -> None:
    """Write the card of a measured bundle."""
    whole = manifest.metrics["whole_files"]
    sections = [
        f"# Model card: {manifest.name}",
        f"Version `{manifest.version}`.\n\n**Not a medical device.** {manifest.intended_use}",
        "## What it is\n\n" + _architecture(manifest),
        f"## Data\n\n{manifest.training_data}.",
        "## Figures on valid (whole files)\n\n" + _figures(whole),
        "## By part of the body\n\n" + _by_part(whole["auc_by_body_part"]),
        "## Operating points\n\n" + f"{manifest.decision.rule}.\n\n" + _decisions(whole["decisions"]),
    ]
    if truncated := manifest.metrics.get("with_truncated_files"):
        sections.append(
            f"With the truncated files too ({truncated['images']} images): AUC {_with(truncated, 'auc')}, "
            f"mAP50 {truncated['boxes']['map50']:.3f}."
        )
    sections.append("## Limits\n\n" + LIMITS)
    licences = "\n".join(f"- {entry.work}: {entry.licence}. {entry.attribution}." for entry in manifest.licences)
    sections.append("## Licences and attribution\n\n" + licences)
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _architecture(manifest: Manifest) -> str:
    preprocessing = manifest.classifier.preprocessing
    calibration = manifest.calibration
    return (
        f"VGG16 (ImageNet weights, blocks 1 to 4 as they were, one run for both networks) at a longest side of "
        f"{preprocessing.longest_side} pixels after {preprocessing.denoise} noise reduction. Classifier "
        f"`{manifest.classifier.architecture}`: {HEADS[manifest.classifier.architecture]}. "
        f"Detector `{manifest.detector.architecture}`: torchvision's Faster R-CNN with a feature pyramid on strides 8, "
        f"16 and 32. The image's probability is a logistic function of the classifier's logit (weight "
        f"{calibration.classifier_weight:.2f}) and the logit of the best box's score (weight "
        f"{calibration.detector_weight:.2f}). Weights in float16 safetensors; training and its log are in `training/`."
    )


def _figures(whole: dict[str, Any]) -> str:
    boxes = whole["boxes"]
    found = ", ".join(f"{share:.2f} at {rate}" for rate, share in boxes["sensitivity_at_false_boxes_an_image"].items())
    rows = [
        ("images (fractured)", f"{whole['images']} ({whole['fractured']})"),
        ("AUC", _with(whole, "auc")),
        (
            "AUC, classifier alone / detector alone",
            f"{whole['auc_classifier_alone']:.3f} / {whole['auc_detector_alone']:.3f}",
        ),
        *_point("sensitive", whole["low"]),
        *_point("specific", whole["high"]),
        ("accuracy, precision, recall, F1 at the specific point", _four(whole["high"])),
        ("expected calibration error", f"{whole['calibration_error']:.3f}"),
        ("mAP50, all images", f"{boxes['map50']:.3f}"),
        ("mAP50, fractured images only", f"{boxes['map50_fractured_images_only']:.3f}"),
        ("mAP50:95, all images", f"{boxes['map50_95']:.3f}"),
        ("true boxes found at so many false boxes an image", found),
        (
            f"at the box threshold {boxes['box_score']:.2f}",
            f"{boxes['sensitivity_at_box_score']:.2f} of true boxes, "
            f"{boxes['false_boxes_an_image_at_box_score']:.2f} false boxes an image",
        ),
    ]
    return _table(("figure", "value (95 % interval)"), rows)


def _point(name: str, figures: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{kind} at the {name} point {figures['point']:.3f}", _with(figures, kind))
        for kind in ("sensitivity", "specificity")
    ]


def _four(figures: dict[str, Any]) -> str:
    return ", ".join(f"{figures[kind]:.3f}" for kind in ("accuracy", "precision", "recall", "f1"))


def _by_part(parts: dict[str, Any]) -> str:
    rows = [
        (part, str(entry["images"]), str(entry["fractured"]), "-" if entry["auc"] is None else f"{entry['auc']:.3f}")
        for part, entry in parts.items()
    ]
    return _table(("part", "images", "fractured", "AUC"), rows)


def _decisions(counts: dict[str, dict[str, int]]) -> str:
    names = list(counts["fractured"])
    rows = [(truth, *(str(counts[truth][name]) for name in names)) for truth in counts]
    return _table(("truth", *names), rows)


def _with(figures: dict[str, Any], name: str) -> str:
    low, high = figures[f"{name}_95"]
    return f"{figures[name]:.3f} ({low:.3f} to {high:.3f})"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
