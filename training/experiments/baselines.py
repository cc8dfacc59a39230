"""The comparison of the source paper, measured: simple models beside the product's, on the same parts of the same sets.

    python -m training.experiments.baselines --data DATA --set natural --model svm --out FOLDER
    python -m training.experiments.baselines --data DATA --set natural --model vgg16 --weights WEIGHTS --out FOLDER
    python -m training.experiments.baselines --data DATA --set natural --model bundle --bundle BUNDLE --out FOLDER

Every model learns from one part of a set, has its settings, its stopping point and its threshold (the one of the best
F1) chosen on parts that it is not reported on, and is reported on the test part. A bundle learns nothing here; its
threshold is a probability of one half. See `training.experiments.baseline_sets` for the sets.

References
----------
Kumar and Singhal, "Bone Fracture Detection Using Deep Learning-Based Medical Image Analysis": the models compared.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import precision_recall_curve
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from models.analyzer import Analyzer
from models.bundle import load_bundle
from models.preprocess import Preprocessing
from training.classifier import probe
from training.data.texture import squares_of, texture_of
from training.evaluate.figures import at_point
from training.evaluate.metrics import auc, auc_interval
from training.evaluate.predictions import load_predictions, networks_digest, predict, probability_of
from training.experiments import basic_cnn
from training.experiments.baseline_sets import Parts, Pool, parts_of, read_pool
from training.experiments.findings import Measurement, ResultWriter
from training.hardware import Hardware

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
SETS = ("natural", "balanced")
PRINCIPAL_COMPONENTS = 256
TREES = 400
VGG16_SIDE = 224  # as the paper has it


@dataclass(frozen=True, slots=True)
class Task:
    """A set in its parts, and what a model may need: weights or a bundle, and a folder for what is computed once."""

    pool: Pool
    parts: Parts
    seed: int
    cache: Path
    weights: Path | None = None
    bundle: Path | None = None
    predictions: Path | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of the test part and the tune part, higher = more suspicious, and what was chosen on the way.

    Without scores of the tune part, `test` holds probabilities and one half is the threshold.
    """

    test: Floats
    tune: Floats | None = None
    chosen: dict[str, Any] = field(default_factory=dict)


def svm(task: Task) -> Scores:
    """Support vectors with a radial kernel on HOG and LBP features."""
    steps = [
        ("scale", StandardScaler()),
        ("reduce", PCA(min(PRINCIPAL_COMPONENTS, len(task.parts.fit) // 2), random_state=task.seed)),
        ("model", SVC(kernel="rbf", class_weight="balanced")),
    ]
    return _search(task, Pipeline(steps), {"model__C": [1, 3, 10], "model__gamma": [3e-5, 1e-4, 3e-4, 1e-3]})


def forest(task: Task) -> Scores:
    """Random Forest on HOG and LBP features."""
    model = RandomForestClassifier(TREES, class_weight="balanced_subsample", random_state=task.seed)
    steps = [("scale", StandardScaler()), ("model", model)]
    return _search(task, Pipeline(steps), {"model__min_samples_leaf": [1, 4], "model__max_features": ["sqrt", 0.05]})


def cnn(task: Task) -> Scores:
    """Train a small network from scratch."""
    config, on = replace(basic_cnn.Config(), seed=task.seed), Hardware.find()
    pictures, labels = squares_of(task.pool.radiographs, config.side, task.cache), task.pool.labels
    fit, tune = (basic_cnn.Examples(pictures[part], labels[part]) for part in (task.parts.fit, task.parts.tune))
    network, history = basic_cnn.train(fit, tune, config, on)
    test = basic_cnn.score(network, pictures[task.parts.test], on)
    chosen = {**asdict(config), **on.describe(), "tune_auc_by_epoch": [round(entry["auc"], 4) for entry in history]}
    return Scores(test, basic_cnn.score(network, tune.pictures, on), chosen=chosen)


def vgg16(task: Task) -> Scores:
    """Perceptrons on averages and maxima of a frozen VGG16 that knows ImageNet."""
    if task.weights is None:
        raise SystemExit("--model vgg16 needs --weights, VGG16's ImageNet features (safetensors)")
    on, config = Hardware.find(), replace(probe.ProbeConfig(), seed=task.seed, strongest=1)
    frozen = probe.Frozen.read(task.weights, Preprocessing(VGG16_SIDE), config.strongest)
    features = probe.pooled_features(frozen, probe.looks_at(task.pool.radiographs), task.cache, on)
    labels = torch.from_numpy(task.pool.labels.astype(np.float32))
    head = probe.mean_of(probe.fit(features[task.parts.fit], labels[task.parts.fit], config))
    with torch.inference_mode():
        probabilities = torch.sigmoid(head.judge(features)).double().numpy()
    chosen = {**asdict(config), **on.describe(), "longest_side": VGG16_SIDE}
    return Scores(probabilities[task.parts.test], probabilities[task.parts.tune], chosen=chosen)


def bundle(task: Task) -> Scores:
    """Ask a bundle, VGG16 with detector: its networks have learnt from train, its calibration from valid."""
    loaded = load_bundle(task.bundle)
    manifest, images = loaded.manifest, [task.pool.radiographs[number] for number in task.parts.test]
    if task.predictions is not None:
        found, _ = load_predictions(task.predictions, networks_digest(manifest), images)
    else:
        found = predict(Analyzer(loaded), images)
    calibration = manifest.calibration.build()
    probabilities = np.array([probability_of(item, calibration) for item in found])
    return Scores(probabilities, chosen={"bundle": loaded.version})


@dataclass(frozen=True, slots=True)
class Baseline:
    """A line of the table."""

    title: str
    score: Callable[[Task], Scores]


MODELS = {
    "svm": Baseline("SVM on HOG and LBP features", svm),
    "forest": Baseline("Random Forest on HOG and LBP features", forest),
    "basic_cnn": Baseline("Basic CNN from scratch", cnn),
    "vgg16": Baseline("VGG16, ImageNet features frozen, perceptron head", vgg16),
    "bundle": Baseline("VGG16 with detector (bundle)", bundle),
}


def measure(labels: Flags, scores: Floats, threshold: float) -> dict[str, Any]:
    """Measure scores (n,) as a ranking and at a threshold."""
    return {
        "images": len(labels),
        "fractured": int(labels.sum()),
        "threshold": threshold,
        "auc": auc(labels, scores),
        "auc_95": auc_interval(labels, scores),
        **{name: value for name, value in at_point(labels, scores, threshold).items() if name != "point"},
    }


def best_f1(labels: Flags, scores: Floats) -> float:
    """Return the threshold of the highest F1; an image is called fractured from this score on."""
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    total = np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax((2 * precision * recall / total)[:-1])])


def compare(task: Task, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run one model; returns what was chosen and its figures on the test part."""
    if name == "bundle":
        task = replace(task, parts=only_valid(task))
    scores, labels = MODELS[name].score(task), task.pool.labels
    threshold = 0.5 if scores.tune is None else best_f1(labels[task.parts.tune], scores.tune)
    sizes = {"fit": len(task.parts.fit), "tune": len(task.parts.tune), "test": len(task.parts.test)}
    return {**scores.chosen, "images": sizes}, measure(labels[task.parts.test], scores.test, threshold)


def only_valid(task: Task) -> Parts:
    """Report a bundle on the set's images of valid, whatever part they are in: it has learnt from train."""
    every = np.concatenate([task.parts.fit, task.parts.tune, task.parts.test])
    nothing = np.empty(0, dtype=np.intp)
    return Parts(nothing, nothing, np.sort(every[task.pool.is_valid[every]]))


def _search(task: Task, pipeline: Pipeline, grid: dict[str, list[Any]]) -> Scores:
    """Choose settings by the AUC of a threefold cross-validation inside the fit part, near duplicates together."""
    features, fit = texture_of(task.pool.radiographs, task.cache), task.parts.fit
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=task.seed)
    search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=folds)
    search.fit(features[fit], task.pool.labels[fit], groups=task.pool.groups[fit])
    chosen = {key.removeprefix("model__"): value for key, value in search.best_params_.items()}
    chosen |= {"steps": [name for name, _ in pipeline.steps], "cross_validated_auc": float(search.best_score_)}
    ask = search.decision_function if hasattr(search, "decision_function") else _probability(search)
    return Scores(ask(features[task.parts.test]), ask(features[task.parts.tune]), chosen=chosen)


def _probability(model: Any) -> Callable[[NDArray[np.float32]], Floats]:
    return lambda features: np.asarray(model.predict_proba(features)[:, 1], dtype=np.float64)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--out", type=Path, required=True, help="folder for baseline-MODEL-SET.json")
    parser.add_argument("--cache", type=Path, default=Path("runs/baselines"), help="folder for what is computed once")
    parser.add_argument("--weights", type=Path, help="VGG16's ImageNet features (safetensors), for vgg16")
    parser.add_argument("--bundle", type=Path, help="the bundle's folder; the shipped one if not given")
    parser.add_argument(
        "--predictions", type=Path, help="what training.evaluate.evaluate kept of the bundle's answers on valid"
    )
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    pool = read_pool(given.data, given.cache)
    parts = parts_of(pool, given.set, given.seed)
    task = Task(pool, parts, given.seed, given.cache, given.weights, given.bundle, given.predictions)
    for name in MODELS if given.model == "all" else [given.model]:
        writer = ResultWriter(given.out, given.data)
        config, metrics = compare(task, name)
        words = {"kind": "baseline", "title": MODELS[name].title, "model": name, "set": given.set, "seed": given.seed}
        if name == "bundle" and given.predictions:
            words["seconds"] = None  # reading answers is not answering
        print(writer.write(f"baseline-{name}-{given.set}", Measurement(words, config, metrics)), json.dumps(metrics))


if __name__ == "__main__":
    main()
