"""The curves of a model's card, drawn from the points in its bundle (`training.evaluate.figures.curves_of`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

HEIGHT = 300
# Told apart by shape and words, too; each has 3 to 1 on white and on Streamlit's dark ground (WCAG 2.2, 1.4.11).
MEASURED, POINT, GUESS = "#1976d2", "#d84315", "#808080"
Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of interest on a curve and its name."""

    x: float
    y: float
    name: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its title and, for who cannot see it, the same in words."""

    title: str
    words: str
    chart: Any


def pictures(figures: Figures) -> Iterator[Chart]:
    """Yield every picture that the figures have points for; KeyError, TypeError or ValueError where they are wrong."""
    curves = figures["curves"]
    if curves["roc"]:
        yield _roc(figures, curves["roc"])
    if curves["precision_recall"]:
        yield _precision_recall(figures, curves["precision_recall"])
    if curves["free_response"] and figures["boxes"]:
        yield _free_response(figures["boxes"], curves["free_response"])
    if curves["reliability"]:
        yield _reliability(figures, curves["reliability"])
    if any(map(any, curves["scores"].values())):
        yield _scores(figures, curves["scores"])


def inked(chart: Any, ink: str) -> Any:
    """Return a chart with all its words in one colour: Streamlit's own are paler than WCAG 2.2, 1.4.3 allows."""
    words = {"labelColor": ink, "titleColor": ink}
    return chart.configure_axis(**words).configure_legend(**words).configure_text(color=ink)


def _roc(figures: Figures, points: Sequence[Sequence[float]]) -> Chart:
    marks = [
        Mark(1 - figures[key]["specificity"], figures[key]["sensitivity"], f"{name} point")
        for name, key in (("sensitive", "low"), ("specific", "high"))
    ]
    low, high = figures["auc_95"]
    words = (
        f"Area under the curve {figures['auc']:.3f} (95 % interval {low:.3f} to {high:.3f}). "
        f"{_spoken(marks, 'sensitivity', 'false positive rate')}; the dashed line is guessing."
    )
    axes = _across("1 - specificity"), _up("Sensitivity")
    chart = alt.layer(_dashed([(0, 0), (1, 1)], *axes), _line(points, *axes), *_marks(marks, *axes))
    return Chart("ROC curve", words, _sized(chart))


def _precision_recall(figures: Figures, points: Sequence[Sequence[float]]) -> Chart:
    share = figures["fractured"] / figures["images"]
    marks = [
        Mark(figures[key]["recall"], figures[key]["precision"], f"{name} point")
        for name, key in (("sensitive", "low"), ("specific", "high"))
        if figures[key]["precision"] is not None
    ]
    words = (
        f"Average precision {figures['average_precision']:.3f}. {_spoken(marks, 'precision', 'recall')}; "
        f"the dashed line is guessing, {share:.2f}."
    )
    axes = _across("Recall"), _up("Precision")
    chart = alt.layer(_dashed([(0, share), (1, share)], *axes), _line(points, *axes), *_marks(marks, *axes))
    return Chart("Precision and recall", words, _sized(chart))


def _free_response(boxes: Figures, points: Sequence[Sequence[float]]) -> Chart:
    least = 1 / (2 * boxes["images"])  # half a box in all images stands for none: the axis is logarithmic
    false, found = boxes["false_boxes_an_image_at_box_score"], boxes["sensitivity_at_box_score"]
    low, high = boxes["map50_interval"]
    mark = Mark(max(least, false), found, f"threshold {boxes['box_score']:.2f}")
    words = (
        f"At the boxes' threshold {boxes['box_score']:.2f}, {found:.2f} of the true boxes are found (IoU 0.5) with "
        f"{false:.2f} false boxes an image. mAP50 {boxes['map50']:.3f} (95 % interval {low:.3f} to {high:.3f})."
    )
    across = alt.X("x:Q", title="False boxes an image", scale=alt.Scale(type="log"))
    up = _up("True boxes found")
    shown = [(max(least, point[0]), point[1]) for point in points]
    chart = alt.layer(_line(shown, across, up), *_marks([mark], across, up))
    return Chart("Free-response curve", words, _sized(chart))


def _reliability(figures: Figures, bins: Sequence[Figures]) -> Chart:
    rows = [
        {"x": each["mean_probability"], "y": each["share"], "images": each["images"]} for each in bins if each["images"]
    ]
    axes = _across("Probability said, mean of a bin"), _up("Share with a fracture")
    dots = (
        alt.Chart(_rows(rows))
        .mark_circle(color=MEASURED, opacity=1)
        .encode(*axes, alt.Size("images:Q", title="Images", legend=None), tooltip=["x:Q", "y:Q", "images:Q"])
    )
    words = (
        f"Calibration error {figures['calibration_error']:.3f}, Brier score {figures['brier']:.3f}; "
        "on the dashed line what is said is what happens. The larger a dot, the more images."
    )
    return Chart("Calibration", words, _sized(alt.layer(_dashed([(0, 0), (1, 1)], *axes), dots)))


def _scores(figures: Figures, counts: Mapping[str, Sequence[int]]) -> Chart:
    rows = [
        {"x": number / len(bins), "x2": (number + 1) / len(bins), "share": count / max(1, sum(bins)), "truth": truth}
        for truth, bins in counts.items()
        for number, count in enumerate(bins)
    ]
    bars = (
        alt.Chart(_rows(rows))
        .mark_bar(opacity=0.75)
        .encode(
            alt.X("x:Q", title="Probability", scale=alt.Scale(domain=[0, 1])),
            alt.X2("x2:Q"),
            alt.Y("share:Q", title="Share of the images", stack=None),
            alt.Y2Datum(0),  # without it a bar has no length: it is a dash at its share
            alt.Color(
                "truth:N",
                title="Truth",
                scale=alt.Scale(domain=["normal", "fractured"], range=[MEASURED, POINT]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["truth:N", "x:Q", "share:Q"],
        )
    )
    low, high = figures["low"]["point"], figures["high"]["point"]
    rules = (
        alt.Chart(_rows([{"x": low}, {"x": high}]))
        .mark_rule(color=GUESS, strokeDash=[4, 4], strokeWidth=2)
        .encode(alt.X("x:Q"))
    )
    words = (
        f"How often which probability was said. The dashed lines are the operating points: below {low:.3f} absent, "
        f"from {high:.3f} present."
    )
    return Chart("Probability by truth", words, _sized(alt.layer(bars, rules)))


def _across(title: str) -> alt.X:
    return alt.X("x:Q", title=title, scale=alt.Scale(domain=[0, 1]))


def _up(title: str) -> alt.Y:
    return alt.Y("y:Q", title=title, scale=alt.Scale(domain=[0, 1]))


def _line(points: Sequence[Sequence[float]], *axes: Any) -> Any:
    rows = [{"x": point[0], "y": point[1], "order": number} for number, point in enumerate(points)]
    return (
        alt.Chart(_rows(rows))
        .mark_line(color=MEASURED, strokeWidth=2.5, interpolate="step-after")
        .encode(*axes, order="order:Q", tooltip=["x:Q", "y:Q"])
    )


def _dashed(points: Sequence[Sequence[float]], *axes: Any) -> Any:
    return (
        alt.Chart(_rows([{"x": x, "y": y} for x, y in points])).mark_line(color=GUESS, strokeDash=[5, 4]).encode(*axes)
    )


def _marks(marks: Sequence[Mark], *axes: Any) -> tuple[Any, Any]:
    rows = _rows([{"x": mark.x, "y": mark.y, "name": mark.name} for mark in marks])
    dots = alt.Chart(rows).mark_point(color=POINT, filled=True, size=110, opacity=1, shape="diamond")
    names = alt.Chart(rows).mark_text(align="left", dx=9, dy=10, fontSize=12)
    return dots.encode(*axes, tooltip=["name:N", "x:Q", "y:Q"]), names.encode(*axes, text="name:N")


def _spoken(marks: Sequence[Mark], y: str, x: str) -> str:
    return "; ".join(f"{mark.name}: {y} {mark.y:.3f}, {x} {mark.x:.3f}" for mark in marks)


def _sized(chart: Any) -> Any:
    return chart.properties(height=HEIGHT)


def _rows(rows: Sequence[Mapping[str, Any]]) -> Any:
    return alt.Data(values=list(rows))  # type: ignore[no-untyped-call]
