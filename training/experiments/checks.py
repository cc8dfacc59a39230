"""Checks against fooling oneself: shortcuts, shuffled labels, near duplicates between train and valid.

    python -m training.experiments.checks --data DATA --out training/results

Each check writes one JSON file with its question, its method, what was measured and a verdict by a rule that is here.
`training.experiments.robustness` and `deploy/check_encodings.py` ask a bundle two questions more.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from training.data.dataset import BODY_PARTS, Radiograph, load
from training.data.near_duplicates import DuplicateCriteria, kept_pairs, summarise
from training.data.texture import kept, texture_of
from training.evaluate.metrics import auc, auc_interval
from training.experiments.findings import Measurement, ResultWriter

FloatArray = NDArray[np.float32]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
# An interval that holds one half means that nothing was learnt; a shuffled truth may miss it by chance.
NOTHING = 0.5
BORDER = 0.04  # of the shorter side: what lies outside of every bone
SHUFFLES = 50
FRAME_PARTS = {"whole_frame": slice(None), "size": slice(0, 4), "grey_ends": slice(4, 14), "borders": slice(14, None)}


@dataclass(frozen=True, slots=True)
class Material:
    """Features (n, f) and labels (n,) of train and of valid."""

    train: FloatArray
    train_labels: Flags
    valid: FloatArray
    valid_labels: Flags

    def part(self, columns: slice) -> Material:
        """Keep some of the features."""
        return Material(self.train[:, columns], self.train_labels, self.valid[:, columns], self.valid_labels)


@dataclass(frozen=True, slots=True)
class ExperimentCheck:
    """What was asked, how, what came out, and what it means."""

    title: str
    question: str
    method: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    verdict: str

    def finding(self, name: str) -> Measurement:
        """Return it as it is written to a file."""
        words = {"kind": "check", "title": self.title, "name": name, "question": self.question, "method": self.method}
        return Measurement({**words, "verdict": self.verdict}, self.config, self.metrics)


def frame_of(pixels: FloatArray) -> FloatArray:
    """Describe what tells nothing of a bone: size, shape, borders, corners, the ends of the grey scale (30 figures)."""
    rows, columns = pixels.shape
    edge = max(1, round(BORDER * min(rows, columns)))
    borders = [pixels[:edge], pixels[-edge:], pixels[:, :edge], pixels[:, -edge:]]
    corners = [pixels[y, x] for y in (slice(edge), slice(-edge, None)) for x in (slice(edge), slice(-edge, None))]
    ends = [(pixels <= level).mean() for level in (0.0, 0.02, 0.05)]
    ends += [(pixels >= level).mean() for level in (1.0, 0.98, 0.95)]
    figures = [rows, columns, rows * columns, rows / columns, *ends, pixels.min(), pixels.max()]
    figures += [*np.percentile(pixels, (1, 99))]
    figures += [value for part in (*borders, *corners) for value in (part.mean(), part.std())]
    return np.array(figures, dtype=np.float32)


def shortcut(frame: Material, body_parts: Material, seed: int) -> ExperimentCheck:
    """Learn the truth from size, borders and corners alone: a high AUC would be a shortcut for every network.

    The frame also tells hand from hip, and these break unequally often: what the body part alone gives stands beside.
    """
    areas = {name: _trees(frame.part(columns), seed) for name, columns in FRAME_PARTS.items()}
    areas["body_part"] = _trees(body_parts, seed)
    whole, (low, high) = areas["whole_frame"]["auc"], areas["whole_frame"]["auc_95"]
    if low <= NOTHING:
        verdict = f"No: AUC {whole:.3f} ({low:.3f} to {high:.3f}), as by chance"
    else:
        verdict = (
            f"In part: AUC {whole:.3f} ({low:.3f} to {high:.3f}), and {areas['body_part']['auc']:.3f} by the body part "
            "alone; a network is worth what it gives beyond that"
        )
    return ExperimentCheck(
        title="Shortcuts in the frame of the image",
        question="Can fractures be told from image size, shape, borders, corners and the ends of the grey scale alone?",
        method="30 such figures an image, gradient boosting trained on train, AUC on the whole files of valid",
        config={"border_share": BORDER, "seed": seed},
        metrics={"images": len(frame.valid_labels), "features": frame.train.shape[1], "areas": areas},
        verdict=verdict,
    )


def _trees(material: Material, seed: int) -> dict[str, Any]:
    model = GradientBoostingClassifier(max_depth=3, subsample=0.7, random_state=seed)
    model.fit(material.train, material.train_labels)
    scores = model.predict_proba(material.valid)[:, 1]
    return {"auc": auc(material.valid_labels, scores), "auc_95": auc_interval(material.valid_labels, scores)}


def shuffled(material: Material, seed: int, shuffles: int = SHUFFLES) -> ExperimentCheck:
    """Learn a shuffled truth: whoever still ranks valid well has seen valid."""
    random = np.random.default_rng(seed)
    true = _area(material, material.train_labels)
    drawn = [_area(material, random.permutation(material.train_labels)) for _ in tqdm(range(shuffles), mininterval=5)]
    mean, spread = float(np.mean(drawn)), float(np.std(drawn, ddof=1))
    error = spread / np.sqrt(shuffles)
    ends = {"auc_lowest": min(drawn), "auc_highest": max(drawn)}
    passed = abs(mean - NOTHING) <= max(3 * error, 0.02) and max(drawn) < true
    return ExperimentCheck(
        title="Shuffled labels",
        question="Does the AUC fall to one half when the labels of train are shuffled?",
        method=f"logistic regression on HOG and LBP features, labels shuffled {shuffles} times, AUC on valid",
        config={"shuffles": shuffles, "seed": seed},
        metrics={"auc_true_labels": true, "auc_mean": mean, "auc_spread": spread, **ends},
        verdict=(
            f"{'Yes' if passed else 'No'}: {mean:.3f} on average ({min(drawn):.3f} to {max(drawn):.3f}), "
            f"{true:.3f} with the true labels"
        ),
    )


def near_duplicates(radiographs: Sequence[Radiograph], cache: Path) -> ExperimentCheck:
    """Look for images that lie, nearly the same, in both blocks."""
    bar = DuplicateCriteria()
    metrics = summarise(radiographs, kept_pairs(radiographs, cache, bar))
    leaks, across = metrics["pairs_across_splits_of_whole_files"], metrics["pairs_across_splits"]
    return ExperimentCheck(
        title="Near duplicates between train and valid",
        question="Is an image of valid, as it is, mirrored or turned, in train too?",
        method=(
            f"perceptual hash in eight orientations (at most {bar.bits} of 64 bits differ), then correlation of fine "
            f"detail over small shifts (at least {bar.correlation})"
        ),
        config={"bits": bar.bits, "correlation": bar.correlation},
        metrics=metrics,
        verdict=(
            f"{leaks or 'No'} pairs of whole files lie across the blocks, and {across - leaks} where a file ends "
            f"early; {metrics['pairs']} pairs in {metrics['groups']} groups in all"
        ),
    )


def _area(material: Material, labels: Flags) -> float:
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
    model.fit(material.train, labels)
    return auc(material.valid_labels, model.decision_function(material.valid))


def reduced(material: Material, components: int = 128) -> Material:
    """Standardise features and reduce them to their principal components, found without any label."""
    count = min(components, len(material.train) // 2)
    pipeline = make_pipeline(StandardScaler(), PCA(count, whiten=True, random_state=0))
    train = pipeline.fit_transform(material.train)
    return Material(train, material.train_labels, pipeline.transform(material.valid), material.valid_labels)


def split_features(radiographs: Sequence[Radiograph], features: FloatArray) -> Material:
    """Part features (n, f) of the images into train and valid."""
    labels = np.array([item.fractured for item in radiographs], dtype=bool)
    valid = np.array([item.split == "valid" for item in radiographs], dtype=bool)
    return Material(features[~valid], labels[~valid], features[valid], labels[valid])


def run(name: str, data: Path, cache: Path, seed: int) -> ExperimentCheck:
    """Run one check."""
    every = [item for split in ("train", "valid") for item in load(data, split)]
    whole = [item for item in every if not item.truncated]
    if name == "shortcut":
        parts = np.array([[part in item.body_parts for part in BODY_PARTS] for item in whole], dtype=np.float32)
        frame = kept("frame", frame_of, whole, cache)
        return shortcut(split_features(whole, frame), split_features(whole, parts), seed)
    if name == "shuffled-labels":
        return shuffled(reduced(split_features(whole, texture_of(whole, cache))), seed)
    return near_duplicates(every, cache)


CHECKS = ("shortcut", "shuffled-labels", "near-duplicates")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--check", choices=[*CHECKS, "all"], default="all")
    parser.add_argument("--out", type=Path, required=True, help="folder for check-NAME.json")
    parser.add_argument("--cache", type=Path, default=Path("runs/baselines"), help="folder for what is computed once")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    for name in CHECKS if given.check == "all" else [given.check]:
        writer = ResultWriter(given.out, given.data)
        check = run(name, given.data, given.cache, given.seed)
        print(writer.write(f"check-{name}", check.finding(name)), json.dumps(check.metrics), check.verdict, sep="\n")


if __name__ == "__main__":
    main()
