"""Give a bundle the measure of how unlike its training images an image is; networks and operating points stay.

    python -m training.classifier.unlikeness --data DATA --bundle FOLDER --features FOLDER --out FOLDER

The features of train's whole files are projected to their first components, each scaled by the root of its spread, and
kept. The limit is the distance to the nearest image of other folds that one image in a hundred exceeds. How many of
valid's images are unlike, and which part of what is no radiograph (`training.experiments.unlike_images`), goes into
the metrics and the card.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.bundle import Bundle, load_bundle
from models.manifest import MANIFEST_NAME
from models.unlikeness import STRONGEST, Unlikeness
from training.bundle.card import write_card
from training.bundle.export import write_json, write_tensors
from training.bundle.parts import read_part
from training.classifier.probe import Frozen, looks_at, pooled_features
from training.data.dataset import Radiograph, whole_files
from training.errors import ending_in_words
from training.hardware import Hardware

COMPONENTS = 96
FOLDS = 4
REFUSED = 0.01
"""Of the training images themselves so many may be called unlike."""


def fitted(features: Tensor, components: int = COMPONENTS) -> Unlikeness:
    """Fit projection and limit to pooled features (n, f) of training images in the collection's order.

    Folds are runs of neighbours, for images of one patient stand side by side: an image's nearest must not be its twin.
    """
    folds = np.array_split(np.arange(len(features)), FOLDS)
    distances = []
    for fold in folds:
        others = np.setdiff1d(np.arange(len(features)), fold)
        distances.append(_projected(features[others], components)(features[fold]))
    measure = _projected(features, components)
    measure.limit.copy_(torch.quantile(torch.cat(distances), 1 - REFUSED))
    return measure


def _projected(features: Tensor, components: int) -> Unlikeness:
    values = features.log1p().double()
    mean, spread = values.mean(0), values.std(0).clamp(min=1e-3)
    _, sizes, directions = torch.linalg.svd((values - mean) / spread, full_matrices=False)
    scale = (sizes[:components] / len(values) ** 0.5).sqrt()
    projection = directions[:components] / spread / scale[:, None]
    measure = Unlikeness(features.shape[1], components, len(features))
    measure.projection.copy_(projection)
    measure.offset.copy_(-projection @ mean)
    measure.seen.copy_(measure.project(features))
    return measure


def add(bundle: Path, measure: Unlikeness, metrics: dict[str, Any], out: Path) -> None:
    """Write the bundle anew with the measure in its classifier's file; the old folder stays as it is."""
    work = out.with_name(out.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(bundle, work)
    content = json.loads((work / MANIFEST_NAME).read_text())
    entry = content["classifier"]
    network = read_part(bundle, "classifier").without_unlikeness().network
    network |= {f"unlikeness.{name}": tensor for name, tensor in measure.state_dict().items()}
    entry["options"] |= {"seen": len(measure.seen), "components": len(measure.offset)}
    content["files"][entry["file"]] = write_tensors(network, work / entry["file"])
    content["metrics"]["unlike"] = metrics
    write_json(work / MANIFEST_NAME, content)
    write_card(load_bundle(work).manifest, work / "README.md")
    shutil.rmtree(out, ignore_errors=True)
    work.rename(out)


def features_of(bundle: Bundle, radiographs: Sequence[Radiograph], folder: Path, on: Hardware) -> Tensor:
    """Return what the bundle's classifier pools of images, (n, f)."""
    entry = bundle.manifest.classifier
    preprocessing = entry.preprocessing.build()
    width = bundle.manifest.width
    frozen = Frozen(width, bundle.classifier_trunk, bundle.classifier.block5, preprocessing, STRONGEST)  # type: ignore[arg-type]
    return pooled_features(frozen, looks_at(radiographs), folder, on)


def run(data: Path, bundle: Path, features: Path, out: Path, device: str = "auto") -> dict[str, Any]:
    """Fit the measure, count who is unlike, write the bundle."""
    on = Hardware.find(device)
    loaded = load_bundle(bundle)
    train = sorted(whole_files(data, "train"), key=lambda item: item.name)
    measure = fitted(features_of(loaded, train, features, on))
    valid = measure(features_of(loaded, whole_files(data, "valid"), features, on))
    metrics = {"limit": float(measure.limit), "train_images": len(train), "train_share": REFUSED, "folds": FOLDS}
    metrics |= {"valid_images": len(valid), "valid_unlike": int((valid > 1).sum()), "valid_most": float(valid.max())}
    add(bundle, measure, metrics, out)
    return metrics


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle that is to have the measure")
    parser.add_argument("--features", type=Path, required=True, help="folder that keeps features for another run")
    parser.add_argument("--out", type=Path, required=True, help="the new bundle's folder; an old one there is replaced")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; a GPU where there is one if not given")
    given = parser.parse_args()
    with ending_in_words():
        print(json.dumps(run(given.data, given.bundle, given.features, given.out, given.device), indent=1))


if __name__ == "__main__":
    main()
