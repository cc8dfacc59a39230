"""Write `docs/models.md` and its pictures from what was measured: `training/results/*.json` and the shipped bundle.

    python -m training.bundle.models_report --out docs

The same inputs give the same text. Each result has a `kind` and a `title`:

- `evaluation`: `training.evaluate.evaluate` on a bundle (settings, cost, whole_files)
- `baseline`: a simpler method on the same images (model, set, metrics, seconds)
- `check`: a question that could show that we fool ourselves (name, question, method, metrics, verdict)
- `run`: a training's `run.json` (config, history, metrics, seconds)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.manifest import SHIPPED, Manifest, read_manifest
from training.bundle.card import beside, cascade_rows, groups, limits_of
from training.bundle.report_parts import baseline_rows, check_section, evaluation_rows, run_rows
from training.evaluate.metrics import wilson
from training.evaluate.plots import draw_history, drawable, save, write_plots
from training.evaluate.tables import (
    FALSE_BOXES,
    NONE,
    Row,
    box_rows,
    cost_rows,
    decision_rows,
    image_rows,
    markdown,
    number,
)

RESULTS = Path(__file__).parents[1] / "results"
KINDS = ("evaluation", "baseline", "check", "run")
SETS = {
    "natural": "On FracAtlas as it is: trained on train, measured on valid, files that end early left out. "
    "The bundle's calibration and operating points were fitted on these same images, the other methods' thresholds "
    "were not.",
    "balanced": "On the paper's kind of set: about 1,200 images, half fractured, 70/15/15 %, measured on the last. The "
    "bundle was not trained on this set: it is shown those of its images that lie in valid, whatever part, more of "
    "them fractured, with calibration and points fitted on valid; its row stands beside the others, not above them. "
    "Seconds are of fitting and answering, without what an earlier set had left behind.",
}
HISTORIES = {"auc": ("classifier", "AUC on valid"), "map50": ("detector", "mAP50 on valid")}
INTRODUCTION = """\
# Models

What was measured, and on what. `make models-report` writes this page from `training/results/*.json` and the shipped
bundle's manifest; nothing here is typed by hand. Every experiment, the failed ones too, is told in
[training/LOG.md](../training/LOG.md); the bundle's own card is [models/weights/README.md](../models/weights/README.md).
Intervals are of 95 %."""
Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure that the project has set itself; `read` finds it in the manifest's metrics, None if not measured."""

    figure: str
    role: str
    wanted: float
    read: Callable[[Mapping[str, Any]], float | None]
    interval: Callable[[Mapping[str, Any]], Sequence[float] | None] = lambda _: None
    fitted_elsewhere: Callable[[Mapping[str, Any]], float | None] = lambda _: None
    most: bool = False

    def row(self, metrics: Mapping[str, Any]) -> Row:
        """Return what `BARS_HEAD` names."""
        reached, between = self.read(metrics), self.interval(metrics)
        wanted = f"{'<=' if self.most else '>='} {self.wanted:g}"
        if reached is None:
            return self.figure, self.role, wanted, "not measured", NONE, NONE, NONE
        bare = None if self.most else self.read({"whole_files": metrics.get("without_copies", {})})
        return (
            self.figure,
            self.role,
            wanted,
            number(reached) + ("" if between is None else f" ({between[0]:.3f} to {between[1]:.3f})"),
            "yes" if self.met(reached) else "no",
            number(bare),
            number(self.fitted_elsewhere(metrics)),
        )

    def met(self, reached: float) -> bool:
        """Say whether a figure is enough."""
        return reached <= self.wanted if self.most else reached >= self.wanted


def _found(figures: Any, *path: str) -> Any:
    for name in path:
        figures = figures.get(name) if figures is not None else None
    return figures


def _images(metrics: Mapping[str, Any], *path: str) -> float | None:
    found = _found(metrics["whole_files"], *path)
    return None if found is None else float(found)


def _interval(metrics: Mapping[str, Any], *path: str) -> Sequence[float] | None:
    """Return the interval that stands beside a figure; that of a share of the true boxes is Wilson's."""
    if FALSE_BOXES in path:
        share, boxes = _images(metrics, *path), _images(metrics, "boxes", "boxes")
        return None if share is None or not boxes else wilson(round(share * boxes), int(boxes))
    *above, name = path
    beside = _found(metrics["whole_files"], *above) or {}
    # In this order: map50_95 is a figure of its own.
    found: Sequence[float] | None = beside.get(f"{name}_interval", beside.get(f"{name}_95"))
    return found


def _fitted_elsewhere(metrics: Mapping[str, Any], *path: str) -> float | None:
    # The cross-fitted figures have the boxes' mAP50 beside those of images.
    found = _found(metrics.get("cross_fitted"), *[name for name in path if name != "boxes"])
    return None if found is None else float(found)


def _seconds(metrics: Mapping[str, Any]) -> float | None:
    cost = metrics.get("cost")
    return float(cost["seconds_median"]) if cost else _images(metrics, "seconds_median")


def _memory(metrics: Mapping[str, Any]) -> float | None:
    cost = metrics.get("cost")
    return round(cost["peak_memory_mib"] * 1.048576e-3, 3) if cost else None


def _bar(figure: str, role: str, wanted: float, *path: str) -> Goal:
    return Goal(
        figure,
        role,
        wanted,
        lambda metrics: _images(metrics, *path),
        lambda metrics: _interval(metrics, *path),
        lambda metrics: _fitted_elsewhere(metrics, *path),
    )


BARS_HEAD = ("figure", "kind", "wanted", "reached (95 % interval)", "enough", "without copies", "cross-fitted")
BARS = (
    _bar("AUC", "floor", 0.91, "auc"),
    _bar("sensitivity at the sensitive point", "floor", 0.92, "low", "sensitivity"),
    _bar("specificity at the sensitive point", "floor", 0.60, "low", "specificity"),
    _bar("mAP50, all images", "floor", 0.48, "boxes", "map50"),
    _bar("true boxes found at 0.5 false boxes an image", "floor", 0.68, "boxes", FALSE_BOXES, "0.5"),
    _bar("mAP50, fractured images only", "to beat", 0.562, "boxes", "map50_fractured_images_only"),
    _bar("AUC", "aim", 0.97, "auc"),
    _bar("accuracy at the specific point", "aim", 0.942, "high", "accuracy"),
    _bar("precision at the specific point", "aim", 0.935, "high", "precision"),
    _bar("recall at the specific point", "aim", 0.928, "high", "recall"),
    _bar("F1 at the specific point", "aim", 0.931, "high", "f1"),
    _bar("mAP50, all images", "aim", 0.70, "boxes", "map50"),
    Goal("seconds an image, median", "limit", 1.3, _seconds, most=True),
    Goal("memory at the peak, GB", "limit", 3.0, _memory, most=True),
)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read every result, ordered by name.

    Raises
    ------
    ValueError
        A file has no known kind, or no title.
    """
    results = []
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result.get("kind") not in KINDS or not result.get("title"):
            raise ValueError(f"{path.name} needs a title and a kind: one of {', '.join(KINDS)}")
        results.append(result)
    return results


def render(results: Sequence[Result], manifest: Manifest) -> str:
    """Return the page's text."""
    sections = [
        INTRODUCTION,
        *_shipped(manifest),
        "## What was wanted, and what is reached\n\n" + _bars(manifest),
        *_baselines(results, manifest),
        *_candidates(results, manifest),
        *_checks(results, manifest.version),
        *_runs(results),
    ]
    return "\n\n".join(sections) + "\n"


def _shipped(manifest: Manifest) -> list[str]:
    metrics = manifest.metrics
    whole = metrics["whole_files"]
    rows = image_rows(whole) + box_rows(whole["boxes"]) + (cost_rows(metrics["cost"]) if "cost" in metrics else [])
    return [
        f"## What ships\n\n`{manifest.version}`: classifier `{manifest.classifier.architecture}`, detector "
        f"`{manifest.detector.architecture}`, measured on {metrics['split']}.",
        markdown(("figure", "value (95 % interval)"), rows),
        "Outcomes by truth:\n\n" + markdown(*decision_rows(whole)),
        *beside(metrics),
        "### Limits\n\n" + limits_of(manifest),
        *(f"![{name.replace('_', ' ')}](models/{name}.png)" for name in drawable(whole)),
        *(section.replace("## ", "### ", 1) for section in groups(whole)),
    ]


def _bars(manifest: Manifest) -> str:
    rows = [bar.row(manifest.metrics) for bar in BARS]
    return (
        "Floors were set before training, for valid; the aims are the figures of the paper that this project follows, "
        "on a set of its own; to beat is YOLOv8s of FracAtlas's authors, pre-trained on COCO. The limits are for two "
        "CPU cores in bfloat16; on what the figures here were measured stands above. The sensitive point was chosen on "
        "valid for a sensitivity above its floor; cross-fitted figures have calibration and points from other images "
        "than those they are measured on.\n\n" + markdown(BARS_HEAD, rows)
    )


def _baselines(results: Sequence[Result], manifest: Manifest) -> list[str]:
    found = [result for result in results if result["kind"] == "baseline"]
    if not found:
        return ["## The paper's comparison\n\nNot measured yet."]
    sections = ["## The paper's comparison"]
    for name, words in SETS.items():
        head, rows = baseline_rows([result for result in found if result["set"] == name], manifest, name)
        if rows:
            sections.append(f"### {name.capitalize()} set\n\n{words}\n\n" + markdown(head, rows))
    return sections


def _candidates(results: Sequence[Result], manifest: Manifest) -> list[str]:
    sections = []
    if found := [result for result in results if result["kind"] == "evaluation"]:
        about = "Rows were timed at different hours; `training/LOG.md` compares costs image by image, in turn."
        sections.append(f"## Accuracy beside cost\n\n{about}\n\n" + markdown(*evaluation_rows(found)))
    if "cascade" in manifest.metrics:
        head = (
            "detector asked",
            "share of images",
            "AUC",
            "sensitivity, specificity",
            "mAP50",
            "seconds, median",
            "seconds, mean",
        )
        table = markdown(head, cascade_rows(manifest.metrics))
        sections.append(f"## Detector on every image, or only where the classifier asks\n\n{table}")
    return sections


def _checks(results: Sequence[Result], shipped: str) -> list[str]:
    found = [result for result in results if result["kind"] == "check"]
    if not found:
        return ["## Checks against fooling oneself\n\nNot made yet."]
    return ["## Checks against fooling oneself", *(check_section(result, shipped) for result in found)]


def _runs(results: Sequence[Result]) -> list[str]:
    found = [result for result in results if result["kind"] == "run"]
    if not found:
        return ["## Training runs\n\nNo run of these networks is recorded here yet."]
    drawn = [f"![{title} by step](models/{name}.png)" for name, (_, title) in _histories(found).items()]
    about = "Hours of a classifier on frozen features are those of the fit; computing the features takes half an hour."
    return [f"## Training runs\n\n{about}\n\n" + markdown(*run_rows(found)), *drawn]


def _histories(runs: Sequence[Result]) -> dict[str, tuple[dict[str, list[Any]], str]]:
    """Return for each network the histories of its runs that have more than one point, and the picture's title."""
    pictures = {}
    for figure, (network, title) in HISTORIES.items():
        points = {run["title"]: [e for e in run["history"] if figure in e and "step" in e] for run in runs}
        if curves := {name: history for name, history in points.items() if len(history) > 1}:
            pictures[network] = (curves, title)
    return pictures


def draw(results: Sequence[Result], manifest: Manifest, folder: Path) -> None:
    """Draw every picture that the text names; older ones are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    write_plots(manifest.metrics["whole_files"], folder)
    for network, (curves, title) in _histories([each for each in results if each["kind"] == "run"]).items():
        figure = next(name for name, (owner, _) in HISTORIES.items() if owner == network)
        save(draw_history(curves, figure, title), folder / f"{network}.png")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of JSON files")
    parser.add_argument(
        "--bundle", type=Path, default=SHIPPED, help="the bundle's folder; the shipped one if not given"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for models.md and models/*.png")
    given = parser.parse_args()
    results, manifest = read_results(given.results), read_manifest(given.bundle)
    draw(results, manifest, given.out / "models")
    (given.out / "models.md").write_text(render(results, manifest), encoding="utf-8")
    print(given.out / "models.md")


if __name__ == "__main__":
    main()
