"""The model in use: its card, drawn from the figures in the bundle and from nowhere else."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from models.manifest import SHIPPED, Manifest, read_manifest
from models.types import ModelError
from worker.ui.visit import Visit

HEIGHT = 280


def show(visit: Visit) -> None:
    """Show the page."""
    st.title("Model")
    try:
        manifest = read_manifest(visit.settings.installed_bundle() or SHIPPED)
    except ModelError as error:
        st.error("The bundle in use cannot be read.")
        st.text(str(error))
        return
    st.text(manifest.version)
    st.text(manifest.intended_use)
    st.text(f"Learnt from: {manifest.training_data}")
    metrics = manifest.metrics.get("whole_files") if manifest.metrics else None
    if not isinstance(metrics, dict) or not isinstance(metrics.get("curves"), dict):
        st.info("This bundle holds no curves: `python -m training.export_bundle` writes them.")
        return
    _figures(metrics)
    _points(manifest, metrics)
    _charts(metrics)
    _parts(metrics)


def _figures(metrics: dict[str, Any]) -> None:
    low, high = metrics["auc_95"]
    numbers = {
        "AUC": f"{metrics['auc']:.3f}",
        "95 % interval": f"{low:.3f} to {high:.3f}",
        "mAP50": f"{metrics['boxes']['map50']:.3f}",
        "Calibration error": f"{metrics['calibration_error']:.3f}",
        "Images": f"{metrics['images']}, {metrics['fractured']} fractured",
    }
    for column, (name, value) in zip(st.columns(len(numbers)), numbers.items(), strict=True):
        column.metric(name, value)


def _points(manifest: Manifest, metrics: dict[str, Any]) -> None:
    st.subheader("Operating points")
    points = manifest.decision.build()
    rows = []
    for name, threshold in (("low", points.low), ("high", points.high)):
        found = metrics[name]
        rows.append(
            {"Point": name, "Probability": threshold}
            | {
                key.capitalize(): _with_interval(found, key)
                for key in ("sensitivity", "specificity", "precision", "accuracy")
            }
        )
    st.dataframe(rows, hide_index=True, height="content")
    st.subheader("Confusion matrix")
    st.dataframe(
        [{"Truth": truth, **counts} for truth, counts in metrics["decisions"].items()],
        hide_index=True,
        height="content",
    )


def _with_interval(found: dict[str, Any], key: str) -> str:
    low, high = found[f"{key}_95"]
    return f"{found[key]:.3f} ({low:.3f} to {high:.3f})"


def _charts(metrics: dict[str, Any]) -> None:
    curves = metrics["curves"]
    charts: tuple[tuple[str, Any], ...] = (
        ("ROC curve", _line(curves["roc"], "1 - specificity", "Sensitivity")),
        ("Precision and recall", _line(curves["precision_recall"], "Recall", "Precision")),
        ("Free-response curve", _line(curves["free_response"], "False boxes an image", "True boxes found")),
        ("Calibration", _reliability(curves["reliability"])),
    )
    columns = st.columns(2)
    for number, (title, chart) in enumerate(charts):
        with columns[number % 2]:
            st.subheader(title)
            st.altair_chart(chart, width="stretch")


def _line(points: list[list[float]], x: str, y: str) -> Any:
    frame = pd.DataFrame([point[:2] for point in points], columns=[x, y])
    return (
        alt.Chart(frame, height=HEIGHT)
        .mark_line(interpolate="step-after", strokeWidth=2.5)
        .encode(
            alt.X(x, type="quantitative"), alt.Y(y, type="quantitative", scale=alt.Scale(domain=[0, 1])), tooltip=[x, y]
        )
    )


def _reliability(bins: list[dict[str, float]]) -> Any:
    frame = pd.DataFrame(
        [
            {"Predicted": each["mean_probability"], "Observed": each["share"], "Images": each["images"]}
            for each in bins
            if each["images"]
        ]
    )
    unit = alt.Scale(domain=[0, 1])
    points = (
        alt.Chart(frame, height=HEIGHT)
        .mark_circle(opacity=0.9)
        .encode(
            alt.X("Predicted", scale=unit),
            alt.Y("Observed", scale=unit),
            size="Images",
            tooltip=["Predicted", "Observed", "Images"],
        )
    )
    ideal = alt.Chart(pd.DataFrame({"Predicted": [0, 1], "Observed": [0, 1]})).mark_line(
        strokeDash=[4, 4], color="gray"
    )
    return ideal.encode(x="Predicted", y="Observed") + points


def _parts(metrics: dict[str, Any]) -> None:
    st.subheader("By body part")
    rows = []
    for part, found in metrics["by_body_part"].items():
        row = {"Body part": part, "Images": found["images"], "Fractured": found["fractured"]}
        if found.get("auc") is not None:
            low, high = found["auc_95"]
            row["AUC"] = f"{found['auc']:.3f} ({low:.3f} to {high:.3f})"
            row["Sensitivity, low point"] = _with_interval(found["low"], "sensitivity")
            row["Specificity, high point"] = _with_interval(found["high"], "specificity")
        rows.append(row)
    st.dataframe(rows, hide_index=True, height="content")
