"""The model in use: its card, drawn from the figures in the bundle and from nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from models.manifest import SHIPPED, Manifest, read_manifest
from models.types import ModelError
from worker.ui.answer import ink
from worker.ui.model_charts import Figures, inked, pictures
from worker.ui.rows import Row, show_rows
from worker.ui.visit import Visit
from worker.ui.words import OUTCOMES

DECISIONS = ("present", "inconclusive", "absent")
GROUPS = (
    ("By body part", "Body part", "by_body_part"),
    ("By view", "View", "by_view"),
    ("By metal in the image", "Metal", "by_hardware"),
)


def show(visit: Visit) -> None:
    """Show the page."""
    st.title("Model")
    visit.record_view_once("model")
    try:
        manifest = read_manifest(visit.settings.installed_bundle() or SHIPPED)
    except ModelError as error:
        st.error("The bundle in use cannot be read.")
        st.text(str(error))
        return
    _about(manifest)
    figures = manifest.metrics.get("whole_files")
    if not isinstance(figures, Mapping) or not isinstance(figures.get("curves"), Mapping):
        st.info("This bundle holds no figures to draw: whoever exported it did not measure it.")
        return
    try:
        _headline(figures, manifest.metrics)
        _operating_points(manifest, figures)
        _pictures(figures)
        for title, name, key in GROUPS:
            _groups(title, name, figures.get(key) or {})
    except (KeyError, TypeError, ValueError, AttributeError):
        # The figures are free text of whoever made the bundle; nothing that is analysed depends on them.
        st.warning("Some figures of this bundle are not as this version writes them, and are not shown.")


def _about(manifest: Manifest) -> None:
    st.text(manifest.version)
    st.text(manifest.intended_use)
    with st.expander("What it learnt from, how it was made, licences"):
        st.text(f"Learnt from: {manifest.training_data}")
        sides = ", ".join(f"{view.longest_side} px{' mirrored' if view.mirrored else ''}" for view in manifest.views())
        st.text(
            f"Classifier: {manifest.classifier.architecture}, longest side "
            f"{manifest.classifier.preprocessing.longest_side} px\n"
            f"Detector: {manifest.detector.architecture}, longest side {sides}"
        )
        st.text(f"How the operating points were chosen: {manifest.decision.rule}")
        for each in manifest.licences:
            st.text(f"{each.work}: {each.licence}, {each.attribution}")


def _headline(figures: Figures, metrics: Mapping[str, Any]) -> None:
    boxes, cost = figures.get("boxes"), metrics.get("cost")
    numbers = {
        "AUC": _interval(figures["auc"], figures["auc_95"]),
        "mAP50 of boxes": _interval(boxes["map50"], boxes["map50_interval"]) if boxes else "-",
        "Calibration error": _number(figures["calibration_error"]),
        "Measured on": f"{figures['images']} images, {figures['fractured']} fractured",
        "An image takes": f"{cost['seconds_median']:.1f} s, {cost['threads']} threads" if cost else "-",
    }
    st.subheader("In short")
    _table("Figures in short", [{"Figure": name, "Value": value} for name, value in numbers.items()])
    st.caption("In brackets: 95 % interval. All figures come from images that training did not see.")


def _operating_points(manifest: Manifest, figures: Figures) -> None:
    st.subheader("Operating points")
    rows = []
    for name, key in (("sensitive: below it, absent", "low"), ("specific: from it on, present", "high")):
        at = figures[key]
        row = {"Point": name, "Probability": f"{getattr(manifest.decision, key):.3f}"}
        for word in ("sensitivity", "specificity", "precision", "accuracy"):
            row[word.capitalize()] = _interval(at[word], at[f"{word}_95"])
        rows.append(row | {"F1": _number(at["f1"])})
    _table("Operating points", rows)
    st.subheader("Confusion matrix")
    table = []
    for truth, counts in figures["decisions"].items():
        whole = max(1, sum(counts.values()))
        answers = {" ".join(OUTCOMES[key]): f"{counts[key]} ({counts[key] / whole:.0%})" for key in DECISIONS}
        table.append({"Truth": truth, **answers})
    _table("Confusion matrix", table)


def _pictures(figures: Figures) -> None:
    columns = st.columns(2)
    for number, picture in enumerate(pictures(figures)):
        with columns[number % 2]:
            st.subheader(picture.title)
            st.altair_chart(inked(picture.chart, ink()), width="stretch", alt=picture.words)
            st.caption(picture.words)


def _groups(title: str, name: str, groups: Mapping[str, Figures]) -> None:
    if not groups:
        return
    st.subheader(title)
    rows = [
        {
            name: group,
            "Images": str(found["images"]),
            "Fractured": str(found["fractured"]),
            "AUC": _interval(found["auc"], found["auc_95"]),
        }
        | {
            f"{word.capitalize()}, {point} point": _interval(found[key][word], found[key][f"{word}_95"])
            for point, key in (("sensitive", "low"), ("specific", "high"))
            for word in ("sensitivity", "specificity")
        }
        for group, found in groups.items()
    ]
    _table(title, rows)


def _table(words: str, rows: Sequence[Mapping[str, str]]) -> None:
    show_rows(words, tuple(rows[0]), [Row(tuple(row.values())) for row in rows], words)


def _interval(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "-"
    if interval is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
