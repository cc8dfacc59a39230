"""The model card `README.md`, written from a bundle's manifest so that no figure is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.manifest import Manifest, NetworkEntry
from training.evaluate.tables import (
    GROUP_HEAD,
    GROUPS,
    POINTS,
    box_rows,
    cost_rows,
    decision_rows,
    group_rows,
    image_rows,
    markdown,
    number,
    with_interval,
)

TRUNKS = {
    "vgg16": "VGG16's blocks 1 to 4",
    "mobilenet_v2": "MobileNetV2's layers",
    "efficientnet_lite2": "EfficientNet-Lite2's layers",
}
HEADS = {
    "vgg16_pooled": "VGG16's block 5 and a perceptron on its pooled map",
    "vgg16_pooled_map": "VGG16's block 5, a perceptron on its pooled map and a location map taught by boxes",
    "vgg16_location_map": "VGG16's block 5 with a pooling head and a location map taught by boxes",
    "faster_rcnn_vgg16_fpn": "torchvision's Faster R-CNN with a feature pyramid on VGG16's strides 8, 16 and 32",
    "faster_rcnn_mobilenet_v2_fpn": "torchvision's Faster R-CNN with a feature pyramid on MobileNetV2",
    "faster_rcnn_efficientnet_lite2_fpn": "torchvision's Faster R-CNN with a feature pyramid on EfficientNet-Lite2",
}
LIMITS = """\
- It knows images like those it was trained on. On other devices and projections, other parts of the body, children's
  growth plates, casts and implants its answers are not to be trusted before they were measured there
  (`bonewatch evaluate`).
- It misses fractures. The tables say how many; "absent" is never a reason not to look.
- The probability is calibrated on images of which {share:.0%} are fractured; where fractures are rarer the true share
  is lower than it says."""
CHOSEN_ON_THE_SAME = """\
- Calibration, operating points and box threshold were chosen on the very images that the figures come from ({split});
  expect somewhat less on new ones."""
CHOSEN_BY_SUCH_FIGURES = """\
- How the networks are read was chosen by figures of this kind on these images: how grey values are stretched, how large
  the classifier looks and how its map is pooled, how often and how large the detector looks, how its candidates vote,
  that every box has a say, and the rule of the points."""
OF_FRACATLAS = """\
- FracAtlas comes from three hospitals in one country, does not give ages and names no patients: images of one patient
  may lie in two blocks.
- Nearly all images with metal in FracAtlas show a fracture: metal alone may raise the probability."""
# Metrics of bundles that came before figures by group had intervals.
OLD_GROUPS = "auc_by_body_part"


def write_card(manifest: Manifest, path: Path) -> None:
    """Write the card of a measured bundle."""
    path.write_text(card(manifest), encoding="utf-8")


def card(manifest: Manifest) -> str:
    """Return the card: what it is, data, figures with intervals, cost, limits, licences."""
    metrics, rule = manifest.metrics, manifest.decision.rule
    whole, split = metrics["whole_files"], metrics["split"]
    licences = "\n".join(f"- {entry.work}: {entry.licence}. {entry.attribution}." for entry in manifest.licences)
    sections = [
        f"# Model card: {manifest.name}",
        f"Version `{manifest.version}`.\n\n**Not a medical device.** {manifest.intended_use}",
        f"## What it is\n\n{_design(manifest)}",
        f"## Data\n\n{manifest.training_data}.",
        f"## Figures on {split}\n\n" + markdown(("figure", "value (95 % interval)"), image_rows(whole)),
        *_boxes(whole),
        *groups(whole),
        f"## Operating points\n\n{rule}.\n\n" + markdown(*decision_rows(whole)),
        *beside(metrics),
        "## Cost\n\n" + markdown(("figure", "value"), _cost(metrics)),
        *_cascade(metrics),
        "## Limits\n\n" + limits_of(manifest),
        f"## Licences and attribution\n\n{licences}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _design(manifest: Manifest) -> str:
    classifier, detector, calibration = manifest.classifier, manifest.detector, manifest.calibration
    shared = classifier.trunk.file == detector.trunk.file
    looks = ", ".join(f"{view.longest_side}{' mirrored' if view.mirrored else ''}" for view in manifest.views())
    own = "with a trunk of its own" if not shared else "on the classifier's trunk"
    asked = (
        "on every image"
        if manifest.detector_from_logit is None
        else f"only where the classifier's logit reaches {manifest.detector_from_logit:.2f}"
    )
    word = "the chance that any box is right" if calibration.any_box else "the best box's score"
    lines = [
        f"- Classifier `{classifier.architecture}`: {_words(classifier)}; longest side "
        f"{classifier.preprocessing.longest_side} pixels, {_preparation(classifier)}.",
        f"- Detector `{detector.architecture}`: {_words(detector)}, {own}; longest side {looks} pixels, "
        f"{_preparation(detector)}. It runs {asked}.",
        f"- The image's probability is a logistic function of the classifier's logit (weight "
        f"{calibration.classifier_weight:.2f}) and the logit of {word} (weight "
        f"{calibration.detector_weight:.2f}), intercept {calibration.intercept:.2f}.",
    ]
    if (boxes := calibration.boxes) is not None:
        lines.append(
            f"- A box's score is a logistic function of the detector's own (weight {boxes.score_weight:.2f}) and of "
            f"the classifier's logit (weight {boxes.classifier_weight:.2f}), intercept {boxes.intercept:.2f}."
        )
    if (unlike := manifest.metrics.get("unlike")) is not None:
        lines.append(
            f"- Unlike: an image whose features lie further from those of all {unlike['train_images']:,} training "
            f"images than {unlike['train_share']:.0%} of these do from the other folds' is inconclusive, whatever the "
            f"networks say. {unlike['valid_unlike']} of valid's {unlike['valid_images']} whole files would be."
        )
    size = sum(entry.size_bytes for entry in manifest.files.values()) / 1e6
    lines.append(
        f"- Weights: {len(manifest.files)} safetensors files, {size:.0f} MB. Training and its log: `training/`."
    )
    return "\n".join(lines)


def _boxes(whole: Mapping[str, Any]) -> list[str]:
    rows = box_rows(whole["boxes"])
    return ["## Boxes\n\n" + markdown(("figure", "value (95 % interval)"), rows)] if rows else []


def _words(entry: NetworkEntry) -> str:
    trunk = TRUNKS.get(entry.trunk.architecture, entry.trunk.architecture)
    stages = entry.options.get("stages", 1)
    heads = f", {stages} stages of box heads" if stages > 1 else ""
    return f"{HEADS.get(entry.architecture, entry.architecture)}{heads}, on {trunk}"


def _preparation(entry: NetworkEntry) -> str:
    low, high = entry.preprocessing.stretch_percentiles
    noise = entry.preprocessing.denoise
    reduced = "no noise reduction" if noise == "none" else f"{noise} noise reduction"
    return f"{reduced}, grey values stretched between percentiles {low:g} and {high:g}"


def groups(whole: Mapping[str, Any]) -> list[str]:
    """Return a section for each kind of group that was measured."""
    if OLD_GROUPS in whole:
        return [_group("part of the body", whole[OLD_GROUPS], whole["images"])]
    return [_group(words, whole[key], whole["images"]) for key, words in GROUPS if len(whole[key]) > 1]


def _group(words: str, figures: Mapping[str, Any], images: int) -> str:
    rows = group_rows(figures)
    used = [column for column in range(len(GROUP_HEAD) + 1) if any(row[column] != "-" for row in rows)]
    head = (words, *GROUP_HEAD)
    chosen = [tuple(row[column] for column in used) for row in rows]
    overlap = sum(each["images"] for each in figures.values()) > images
    table = markdown(tuple(head[column] for column in used), chosen)
    return f"## By {words}\n\n{table}" + ("\n\nAn image may be in more than one row." if overlap else "")


def beside(metrics: Mapping[str, Any]) -> list[str]:
    """Tell what the figures would be on somewhat other images, and with nothing fitted on those they come from."""
    return [*_kept_aside(metrics), *_truncated(metrics), *_copies(metrics), *_cross_fitted(metrics)]


def _kept_aside(metrics: Mapping[str, Any]) -> list[str]:
    """Set figures of images that were never here beside those of the images that everything was chosen on."""
    places = metrics.get("kept_aside")
    if places is None:
        return []
    whole = metrics["whole_files"]
    boxes = {**whole["boxes"], "boxes_found": whole["boxes"]["sensitivity_at_false_boxes_an_image"]["0.5"]}
    columns = [{**whole, **boxes, "measured_on": metrics["split"]}, *places]
    rows = [
        ("images, fractured", *(f"{each['images']}, {each['fractured']}" for each in columns)),
        ("AUC", *(with_interval(each, "auc") for each in columns)),
        *((f"{words} point: sensitivity, specificity", *(_at(each[key]) for each in columns)) for words, key in POINTS),
        ("mAP50, all images", *(number(each.get("map50")) for each in columns)),
        ("mAP50, fractured images alone", *(number(each.get("map50_fractured_images_only")) for each in columns)),
        ("boxes found at 0.5 false ones an image", *(number(each.get("boxes_found")) for each in columns)),
    ]
    table = markdown(("figure", *(each["measured_on"] for each in columns)), rows)
    words = (
        f"Everything was chosen on {metrics['split']}; the others no choice has seen, an acceptance measured on them"
    )
    return [f"{words}:\n\n{table}"]


def _at(point: Mapping[str, Any]) -> str:
    return f"{number(point['sensitivity'])}, {number(point['specificity'])}"


def _truncated(metrics: Mapping[str, Any]) -> list[str]:
    figures = metrics.get("with_truncated_files")
    if figures is None:
        return []
    number_of = figures["images"] - metrics["whole_files"]["images"]
    return [
        f"{number_of} more images end early (a grey band at the bottom). The product refuses such files; with them, "
        f"for completeness: AUC {with_interval(figures, 'auc')}, mAP50 {number(figures['boxes']['map50'])}."
    ]


def _copies(metrics: Mapping[str, Any]) -> list[str]:
    figures = metrics.get("without_copies")
    if figures is None:
        return []
    number_of = metrics["whole_files"]["images"] - figures["images"]
    return [
        f"{number_of} of these images are copies of images of the collection's train block, which networks may have "
        f"learnt from. Without them: AUC {with_interval(figures, 'auc')}, mAP50 {number(figures['boxes']['map50'])}."
    ]


def _cross_fitted(metrics: Mapping[str, Any]) -> list[str]:
    figures = metrics.get("cross_fitted")
    if figures is None:
        return []
    points = "; ".join(
        f"at the {words} point sensitivity {with_interval(figures[key], 'sensitivity')}, specificity "
        f"{with_interval(figures[key], 'specificity')}"
        for words, key in POINTS
    )
    return [
        f"With calibration and points fitted on other images than those they are measured on ({figures['folds']} "
        f"folds): AUC {with_interval(figures, 'auc')}; {points}; mAP50 {number(figures['map50'])}."
    ]


def _cost(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    if "cost" in metrics:
        return cost_rows(metrics["cost"])
    return [("seconds an image, median", number(metrics["whole_files"]["seconds_median"]))]


def _cascade(metrics: Mapping[str, Any]) -> list[str]:
    """Tell what asking the detector only above a logit changes; `cascade_row` measures it."""
    if "cascade" not in metrics:
        return []
    head = (
        "detector asked",
        "share of images",
        "AUC",
        "sensitivity, specificity (sensitive point)",
        "mAP50",
        "seconds, median",
        "seconds, mean",
    )
    return ["## Detector on every image, or only where the classifier asks\n\n" + markdown(head, cascade_rows(metrics))]


def cascade_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row a setting of the cascade."""
    return [
        (
            "always" if row["detector_from_logit"] is None else f"from logit {row['detector_from_logit']:.2f}",
            f"{row['detector_share']:.2f}",
            number(row["auc"]),
            f"{number(row['sensitivity'])}, {number(row['specificity'])}",
            number(row["map50"]),
            number(row["seconds_median"]),
            number(row.get("seconds_mean")),
        )
        for row in metrics["cascade"]
    ]


def limits_of(manifest: Manifest) -> str:
    """Return what the figures do not say, as a list."""
    metrics, whole = manifest.metrics, manifest.metrics["whole_files"]
    limits = LIMITS.format(share=whole["fractured"] / whole["images"])
    if metrics.get("chosen_on", metrics["split"]) == metrics["split"]:
        limits += "\n" + CHOSEN_ON_THE_SAME.format(split=metrics["split"])
    if any("FracAtlas" in entry.work for entry in manifest.licences):
        limits += "\n" + OF_FRACATLAS
    return limits + "\n" + CHOSEN_BY_SUCH_FIGURES if metrics["split"] == "valid" else limits
