"""Pictures of figures (PNG), all in one style: what was measured in colour, what blind guessing gives in grey.

Each function draws from the tree that `training.evaluate.figures.measure` returns and gives a matplotlib Figure;
nothing is kept between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MEASURED, SECOND, THIRD, GUESS = "#1b5e9e", "#c8501e", "#3b8a4f", "#9a9a9a"
LINES = (MEASURED, SECOND, THIRD, "#7a4fa3", "#b8860b", "#2a8c8c")
SIZE, DOTS_AN_INCH = (5.6, 4.4), 120
Figures = Mapping[str, Any]


def canvas(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    """Return an empty picture with its axes named."""
    figure, (axes,) = canvases([title], across, up)
    return figure, axes


def canvases(titles: Sequence[str], across: str, up: str) -> tuple[Figure, list[Axes]]:
    """Return a picture of so many empty panels beside each other."""
    figure = Figure(figsize=(SIZE[0] * len(titles), SIZE[1]), dpi=DOTS_AN_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(1, len(titles), number) for number in range(1, len(titles) + 1)]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=11, loc="left", fontweight="bold")
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(visible=True, color="#e4e4e4", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def save(figure: Figure, path: Path) -> Path:
    """Write a picture; the same figure gives the same bytes, as no date or version is written into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})
    return path


def draw_roc(figures: Figures) -> Figure:
    """Draw sensitivity against false positive rate, with both operating points and the paper's four figures there."""
    figure, axes = canvas("ROC curve of the image's probability", "1 - specificity", "sensitivity")
    low, high = figures["auc_95"]
    axes.plot([0, 1], [0, 1], color=GUESS, linestyle="--", linewidth=1)
    label = f"AUC {figures['auc']:.3f} ({low:.3f} to {high:.3f})"
    axes.plot(*_columns(figures["curves"]["roc"], 2), color=MEASURED, linewidth=2, label=label)
    for name, key, colour in (("sensitive", "low", SECOND), ("specific", "high", THIRD)):
        at = figures[key]
        words = f"{name} point {at['point']:.3f}: {_four(at)}"
        axes.plot(1 - at["specificity"], at["sensitivity"], "o", color=colour, markersize=8, label=words)
    return _with_legend(figure, axes, "lower right")


def _four(at: Figures) -> str:
    names = (("accuracy", "acc."), ("precision", "prec."), ("recall", "rec."), ("f1", "F1"))
    return ", ".join(f"{short} {at[name]:.3f}" for name, short in names if at[name] is not None)


def draw_precision_recall(figures: Figures) -> Figure:
    """Draw precision against recall; blind guessing has the share of fractured images as its precision."""
    figure, axes = canvas("Precision and recall of the image's answer", "recall (sensitivity)", "precision")
    share = figures["fractured"] / figures["images"]
    axes.axhline(share, color=GUESS, linestyle="--", linewidth=1, label=f"share of fractured images {share:.3f}")
    label = f"average precision {figures['average_precision']:.3f}"
    axes.plot(*_columns(figures["curves"]["precision_recall"], 2), color=MEASURED, linewidth=2, label=label)
    for name, key, colour in (("sensitive", "low", SECOND), ("specific", "high", THIRD)):
        at = figures[key]
        if at["precision"] is not None:
            axes.plot(at["recall"], at["precision"], "o", color=colour, markersize=8, label=f"{name} point")
    return _with_legend(figure, axes, "lower left")


def draw_reliability(figures: Figures) -> Figure:
    """Draw the share of fractured images against the probability that was said, by bins; the area is the images."""
    figure, axes = canvas("Reliability of the probability", "probability said (mean of the bin)", "share fractured")
    axes.plot([0, 1], [0, 1], color=GUESS, linestyle="--", linewidth=1, label="perfect")
    bins = figures["curves"]["reliability"]
    said, seen = [each["mean_probability"] for each in bins], [each["share"] for each in bins]
    error, brier = figures["calibration_error"], figures["brier"]
    axes.plot(said, seen, color=MEASURED, linewidth=1.5, label=f"calibration error {error:.3f}, Brier {brier:.3f}")
    axes.scatter(said, seen, s=[20 + 400 * each["images"] / figures["images"] for each in bins], color=MEASURED)
    for each in bins:
        place = (each["mean_probability"], each["share"])
        axes.annotate(str(each["images"]), place, xytext=(7, -11), textcoords="offset points", fontsize=7.5)
    return _with_legend(figure, axes, "upper left")


def draw_free_response(figures: Figures) -> Figure:
    """Draw the share of true boxes found (IoU 0.5) against false boxes an image, with the box threshold in force."""
    title = "Free-response curve of the boxes (IoU 0.5)"
    figure, axes = canvas(title, "false boxes an image (logarithmic)", "share of true boxes found")
    boxes, points = figures["boxes"], figures["curves"]["free_response"]
    least = 1 / (2 * boxes["images"])  # half a box in all images stands for none
    across = [max(least, point[0]) for point in points]
    axes.step(across, [point[1] for point in points], where="post", color=MEASURED, linewidth=2, label=_map50(boxes))
    rates = boxes["sensitivity_at_false_boxes_an_image"]
    axes.plot([float(rate) for rate in rates], list(rates.values()), "s", color=SECOND, markersize=5, label=_at(rates))
    false, found = boxes["false_boxes_an_image_at_box_score"], boxes["sensitivity_at_box_score"]
    words = f"box threshold {boxes['box_score']:.2f}: {found:.2f} at {false:.2f}"
    axes.plot(max(least, false), found, "o", color=THIRD, markersize=8, label=words)
    axes.set_xscale("log")
    axes.set_xlim(least, max(1.0, *across))
    axes.set_ylim(0, 1.02)
    return _with_legend(figure, axes, "upper left", square=False)


def _map50(boxes: Figures) -> str:
    low, high = boxes["map50_interval"]
    return f"mAP50 {boxes['map50']:.3f} ({low:.3f} to {high:.3f})"


def _at(rates: Mapping[str, float]) -> str:
    return "; ".join(f"{share:.2f} at {rate}" for rate, share in rates.items())


def draw_scores(figures: Figures) -> Figure:
    """Draw how many images of each class got which probability, and where the operating points lie."""
    figure, axes = canvas("Probability by truth", "probability", "share of the class's images")
    counts = figures["curves"]["scores"]
    for name, colour in (("normal", MEASURED), ("fractured", SECOND)):
        bins, total = counts[name], max(1, sum(counts[name]))
        edges = [number / len(bins) for number in range(len(bins) + 1)]
        shares = [count / total for count in bins]
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.45, label=f"{name} ({sum(bins)} images)")
        axes.stairs(shares, edges, color=colour, linewidth=1.2)
    for key, style in (("low", ":"), ("high", "--")):
        axes.axvline(figures[key]["point"], color="#333333", linestyle=style, linewidth=1.2, label=_point(key, figures))
    axes.set_xlim(0, 1)
    return _with_legend(figure, axes, "upper center", square=False)


def _point(key: str, figures: Figures) -> str:
    return f"{'sensitive' if key == 'low' else 'specific'} point {figures[key]['point']:.3f}"


def draw_history(runs: Mapping[str, Sequence[Figures]], figure_name: str, title: str) -> Figure:
    """Draw one figure of several training runs against the step; `runs` has each run's history by its title."""
    figure, axes = canvas(title, "step", figure_name)
    for (name, history), colour in zip(runs.items(), LINES * len(runs), strict=False):
        draw_line(axes, history, figure_name, color=colour, label=name)
    axes.set_ylim(bottom=0)
    return _with_legend(figure, axes, "lower right", square=False)


def draw_line(axes: Axes, history: Sequence[Figures], figure_name: str, **style: Any) -> None:
    """Draw a figure of the evaluations that have it against their step, or their number where they have none."""
    points = [(each.get("step", index), each[figure_name]) for index, each in enumerate(history) if figure_name in each]
    axes.plot(*zip(*points, strict=True), **{"linewidth": 1.8, "marker": "o", "markersize": 3, **style})


DRAWINGS: dict[str, tuple[Callable[[Figures], Figure], str]] = {
    "roc": (draw_roc, "auc"),
    "precision_recall": (draw_precision_recall, "auc"),
    "reliability": (draw_reliability, "brier"),
    "free_response": (draw_free_response, "boxes"),
    "scores": (draw_scores, "images"),
}


def drawable(figures: Figures) -> list[str]:
    """Name the pictures that these figures have enough for: no ROC with one class only, no curve without a true box."""
    if "curves" not in figures:
        return []
    return [name for name, (_, needed) in DRAWINGS.items() if figures.get(needed) is not None]


def write_plots(figures: Figures, folder: Path) -> list[Path]:
    """Write every picture that can be drawn as `<name>.png`; returns their paths."""
    return [save(DRAWINGS[name][0](figures), folder / f"{name}.png") for name in drawable(figures)]


def _columns(points: Sequence[Sequence[float]], count: int) -> list[list[float]]:
    return [[point[column] for point in points] for column in range(count)]


def _with_legend(figure: Figure, axes: Axes, place: str, *, square: bool = True) -> Figure:
    if square:
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
    axes.legend(loc=place, fontsize=8, frameon=True, framealpha=0.9, edgecolor="#dddddd")
    return figure
