"""Fit the classifier's head to a site's images, on the maps of its frozen convolutions.

A site has hundreds of images, not thousands: the convolutions stay as they are, the head moves gently, and what is not
better on the site's tune part is thrown away.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from models.bundle import Bundle
from models.classifier import Classifier, PooledHead
from models.preprocess import normalise, prepare
from models.views import mirror
from training.data.dataset import Radiograph
from training.evaluate.metrics import auc
from training.hardware import Hardware
from training.site.progress import Progress
from training.site.split import Split

FloatArray = NDArray[np.float32]
# Few images, each pulled this far at the most: beyond it a rare class would drown the other.
POSITIVE_WEIGHTS = (0.25, 4.0)


@dataclass(frozen=True)
class HeadConfig:
    """How the head is fitted; `patience` epochs without a better AUC on tune end it."""

    epochs: int = 30
    patience: int = 6
    batch: int = 16
    rate: float = 1e-4
    weight_decay: float = 0.01
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Tuned:
    """A network after tuning: figures on tune before and after; `changed` says whether the new weights were taken."""

    network: nn.Module
    before: float | None
    after: float | None
    changed: bool

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {"before": self.before, "after": self.after, "changed": self.changed}


@dataclass(frozen=True, slots=True)
class Sample:
    """What the head learns from: a file with block 5's map (half precision) or its pooled features, and the label."""

    path: Path
    shape: tuple[int, ...]
    fractured: bool

    def read(self) -> FloatArray:
        """Return it as float32."""
        return np.asarray(np.load(self.path, allow_pickle=False), dtype=np.float32)


class Features:
    """Runs the frozen part of a classifier once over each image and keeps what comes out in a folder.

    What lies there already, of an interrupted run, is not computed again.
    """

    def __init__(self, bundle: Bundle, on: Hardware, folder: Path) -> None:
        self._trunk, self._block5 = copy.deepcopy(bundle.classifier_trunk), copy.deepcopy(bundle.classifier.block5)
        for part in (self._trunk, self._block5):
            on.place(part)
        self._head = bundle.classifier.head
        self._preprocessing = bundle.manifest.classifier.preprocessing.build()
        self._on, self._folder = on, folder
        folder.mkdir(parents=True, exist_ok=True)

    def samples(self, radiographs: Sequence[Radiograph], name: str, *, mirrored: bool) -> list[Sample]:
        """Compute the samples of a part of the split; with `mirrored` each image twice."""
        made = []
        for number, item in enumerate(tqdm(radiographs, desc=f"features {name}", unit="image", disable=None)):
            paths = [self._folder / f"{name}-{number}-{look}.npy" for look in range(2 if mirrored else 1)]
            if not all(path.exists() for path in paths):
                pixels = item.pixels()
                for path, seen in zip(paths, (pixels, mirror(pixels)), strict=False):
                    _write(self._features(seen), path)
            made += [Sample(path, np.load(path, mmap_mode="r").shape, item.fractured) for path in paths]
        return made

    @torch.no_grad()
    def _features(self, pixels: FloatArray) -> NDArray[np.floating]:
        canvas, _ = prepare(pixels, self._preprocessing)
        images = self._on.images(torch.from_numpy(normalise(canvas, self._trunk.normalisation))[None])
        with self._on.autocast():
            maps: Tensor = self._block5(self._trunk(images))
        if isinstance(self._head, PooledHead):
            return np.asarray(self._head.pool(maps.float())[0].cpu().numpy())
        return np.asarray(maps.float()[0].cpu().numpy(), dtype=np.float16)


def _write(features: NDArray[np.floating], path: Path) -> None:
    """Write an image's features, whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    np.save(temporary, features, allow_pickle=False)
    temporary.replace(path)


def tune_classifier(bundle: Bundle, split: Split, config: HeadConfig, on: Hardware, progress: Progress) -> Tuned:
    """Fit the head on train, stop by the AUC on tune; the old head stays where no epoch is better."""
    classifier = copy.deepcopy(bundle.classifier)
    if done := progress.load("classifier"):
        classifier.head.load_state_dict(done["head"])
        return Tuned(_frozen(classifier), done["before"], done["after"], changed=done["after"] > done["before"])
    features = Features(bundle, on, progress.features)
    train = features.samples(split.train, "train", mirrored=True)
    tune = features.samples(split.tune, "tune", mirrored=False)
    head = classifier.head.to(on.device)
    before = area = auc_of(head, tune, on)
    best, waited = copy.deepcopy(head.state_dict()), 0
    with tqdm(total=config.epochs, desc="classifier head", unit="epoch", disable=None) as bar:
        for _ in fit(head, train, config, on):
            reached = auc_of(head, tune, on)
            waited = 0 if reached > area else waited + 1
            if reached > area:
                area, best = reached, copy.deepcopy(head.state_dict())
            bar.set_postfix({"tune AUC": f"{reached:.4f}", "best": f"{area:.4f}"})
            bar.update()
            if waited == config.patience:
                break
    head.load_state_dict(best)
    progress.save("classifier", {"head": best, "before": before, "after": area})
    return Tuned(_frozen(classifier), before, area, changed=area > before)


def fit(head: nn.Module, samples: Sequence[Sample], config: HeadConfig, on: Hardware) -> Iterator[int]:
    """Train the head, yielding after each epoch; the same seed gives the same steps."""
    head.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), config.rate, weight_decay=config.weight_decay)
    weight = torch.tensor(positive_weight(samples), device=on.device)
    for epoch in range(config.epochs):
        torch.manual_seed(config.seed * 1_000_003 + epoch)  # dropout draws from it
        head.train()
        for batch in batches(samples, config, epoch):
            labels = torch.tensor([float(sample.fractured) for sample in batch], device=on.device)
            loss = binary_cross_entropy_with_logits(logits_of(head, batch, on), labels, pos_weight=weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(head.parameters(), 5.0)
            optimizer.step()
        head.eval()
        yield epoch


def batches(samples: Sequence[Sample], config: HeadConfig, epoch: int) -> Iterator[list[Sample]]:
    """Yield every sample once, maps of one shape together, in an order drawn from seed and epoch."""
    random = np.random.default_rng([config.seed, epoch])
    by_shape: dict[tuple[int, ...], list[Sample]] = defaultdict(list)
    for index in random.permutation(len(samples)):
        by_shape[samples[index].shape].append(samples[index])
    groups = [
        group[start : start + config.batch]
        for group in by_shape.values()
        for start in range(0, len(group), config.batch)
    ]
    for index in random.permutation(len(groups)):
        yield groups[index]


def logits_of(head: nn.Module, batch: Sequence[Sample], on: Hardware) -> Tensor:
    """Return the logits (n,) of samples of one shape."""
    inputs = torch.from_numpy(np.stack([sample.read() for sample in batch])).to(on.device)
    logits: Tensor = head.judge(inputs) if isinstance(head, PooledHead) else head(inputs).logits
    return logits


@torch.no_grad()
def auc_of(head: nn.Module, samples: Sequence[Sample], on: Hardware) -> float:
    """Return the area under the ROC curve of a head in evaluation mode."""
    logits = [float(logits_of(head, [sample], on)[0]) for sample in samples]
    return auc([sample.fractured for sample in samples], logits)


def positive_weight(samples: Sequence[Sample]) -> float:
    """Return the weight at which both classes pull alike, within limits."""
    positives = sum(sample.fractured for sample in samples)
    low, high = POSITIVE_WEIGHTS
    return min(max((len(samples) - positives) / positives, low), high)


def _frozen(classifier: Classifier[Any]) -> nn.Module:
    return classifier.cpu().eval().requires_grad_(False)
