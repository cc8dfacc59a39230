"""Parts of the models report: results of each kind as rows and sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.manifest import Manifest
from training.evaluate.tables import NONE, Row, markdown, number, with_interval

Result = Mapping[str, Any]
BASELINE_HEAD = (
    "method",
    "images (fractured)",
    "accuracy",
    "precision",
    "recall",
    "F1",
    "AUC",
    "specificity",
    "answer from",
    "seconds",
)
EVALUATION_HEAD = (
    "bundle",
    "detector's looks",
    "detector asked",
    "AUC",
    "sensitivity, specificity (sensitive point)",
    "mAP50",
    "seconds, median",
    "memory, MiB",
    "measured on",
)
LONGEST_LIST = 12
LONGEST_TABLE = 16


def baseline_rows(results: Sequence[Result], manifest: Manifest, name: str) -> tuple[Row, list[Row]]:
    """Compare methods on one set, the worst AUC first; on the natural set the shipped bundle stands last."""
    ordered = sorted(results, key=lambda result: (result["metrics"]["auc"], result["title"]))
    rows = [_baseline(result["title"], result["metrics"], result.get("seconds")) for result in ordered]
    if rows and name == "natural" and not any(result["model"] == "bundle" for result in results):
        rows += _of_bundle(manifest)
    return BASELINE_HEAD, rows


def _of_bundle(manifest: Manifest) -> list[Row]:
    """Return the shipped bundle at both of its operating points."""
    whole = manifest.metrics["whole_files"]
    areas = {name: whole.get(name) for name in ("images", "fractured", "auc", "auc_95")}
    return [
        _baseline(f"the shipped bundle, {words} point", {**areas, **whole[key], "threshold": whole[key]["point"]}, None)
        for key, words in (("low", "sensitive"), ("high", "specific"))
    ]


def _baseline(title: str, metrics: Mapping[str, Any], seconds: float | None) -> Row:
    shares = (number(metrics.get(name)) for name in ("accuracy", "precision", "recall", "f1"))
    return (
        title,
        f"{metrics['images']} ({metrics['fractured']})",
        *shares,
        with_interval(metrics, "auc"),
        number(metrics.get("specificity")),
        number(metrics.get("threshold")),
        number(seconds, 0),
    )


def evaluation_rows(results: Sequence[Result]) -> tuple[Row, list[Row]]:
    """Put accuracy beside cost, one row an evaluated bundle."""
    return EVALUATION_HEAD, [_evaluation(result) for result in results]


def _evaluation(result: Result) -> Row:
    whole, cost, settings = result["whole_files"], result["cost"], result["settings"]
    low, boxes, asked = whole["low"], whole["boxes"] or {}, settings["detector_from_logit"]
    return (
        result["title"],
        ", ".join(settings["detector_views"]),
        "always" if asked is None else f"from logit {asked:.2f}",
        with_interval(whole, "auc"),
        f"{number(low['sensitivity'])}, {number(low['specificity'])}",
        with_interval(boxes, "map50", "map50_interval"),
        number(cost["seconds_median"]),
        str(cost["peak_memory_mib"]),
        f"{cost['device']}, {cost['dtype']}, {cost['threads']} threads",
    )


def run_rows(results: Sequence[Result]) -> tuple[Row, list[Row]]:
    """Tell of each training run its best figures and when it had them, how long it took and on what."""
    return ("run", "steps", "best", "at step", "hours", "device", "commit"), [_run(result) for result in results]


def _run(result: Result) -> Row:
    metrics, config = result["metrics"], result["config"]
    best = [f"{name} {metrics[name]:.3f}" for name in ("auc", "map50") if isinstance(metrics.get(name), float)]
    steps = [entry["step"] for entry in result["history"] if "step" in entry]
    return (
        result["title"],
        str(max(steps)) if steps else NONE,
        ", ".join(best) or NONE,
        str(metrics.get("step", NONE)),
        f"{result['seconds'] / 3600:.1f}",
        f"{config.get('device', 'CPU')}, {config.get('dtype', 'float32')}",
        _commit(str(result.get("commit", NONE))),
    )


def _commit(words: str) -> str:
    """Shorten a commit; what differs from it is told."""
    return words[:8] + (", changed" if words.endswith("-dirty") else "")


def check_section(result: Result, shipped: str) -> str:
    """Tell one check: question, verdict, method, what was measured, on which bundle if it was not the shipped one."""
    parts = [f"### {result['title']}", result["question"], f"**{result['verdict']}.**".replace("..", ".")]
    if (bundle := result.get("config", {}).get("bundle", shipped)) != shipped:
        parts.append(f"Measured on an earlier bundle, `{bundle}`.")
    return "\n\n".join([*parts, f"How: {result['method']}", *tables_of(result["metrics"])])


def tables_of(metrics: Mapping[str, Any]) -> list[str]:
    """Show a tree of figures: plain values in one table, each list or mapping of mappings in one of its own."""
    plain = {name: each for name, each in metrics.items() if not _is_table(each)}
    tables = [markdown(("figure", "value"), _pairs(plain))] if plain else []
    return tables + [_table(name, each) for name, each in metrics.items() if _is_table(each)]


def _is_table(each: Any) -> bool:
    entries = list(each.values()) if isinstance(each, Mapping) else each if isinstance(each, list) else []
    return bool(entries) and all(isinstance(entry, Mapping) for entry in entries)


def _table(name: str, entries: Mapping[str, Any] | list[Any]) -> str:
    """Show entries of figures, a row each; a mapping's keys stand before them."""
    if isinstance(entries, Mapping):
        rows = [{words(name): words(str(key)), **dict(_pairs(entry))} for key, entry in entries.items()]
    else:
        rows = [dict(_pairs(entry)) for entry in entries]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [tuple(row.get(column, NONE) for column in columns) for row in rows]
    more = f"\n\nand {len(cells) - LONGEST_TABLE} more." if len(cells) > LONGEST_TABLE else ""
    return f"{words(name)}:\n\n{markdown(tuple(columns), cells[:LONGEST_TABLE])}{more}"


def _pairs(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and values as words, an interval (`_95`) behind its figure."""
    told = []
    for name, each in figures.items():
        if name.endswith("_95") and name.removesuffix("_95") in figures:
            continue
        interval = figures.get(f"{name}_95")
        told.append((words(name), f"{value(each)} ({value(interval)})" if interval is not None else value(each)))
    return told


def words(name: str) -> str:
    """Return a key as words."""
    return name.replace("_", " ")


def value(each: Any) -> str:
    """Return a value as a cell."""
    if each is None:
        return NONE
    if isinstance(each, bool):
        return "yes" if each else "no"
    if isinstance(each, Mapping):
        return "; ".join(f"{name} {told}" for name, told in _pairs(each)) or NONE
    if isinstance(each, list | tuple):
        return _list(each)
    return f"{each:.3f}" if isinstance(each, float) else str(each).replace("|", "\\|")


def _list(each: Sequence[Any]) -> str:
    if len(each) == 2 and all(isinstance(end, float) for end in each):
        return f"{each[0]:.3f} to {each[1]:.3f}"
    shown = ", ".join(value(entry) for entry in each[:LONGEST_LIST])
    return (f"{shown}, and {len(each) - LONGEST_LIST} more" if len(each) > LONGEST_LIST else shown) or "none"
