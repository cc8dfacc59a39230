"""Train the classifier with a location map on the cached maps of the frozen trunk.

    python -m training.train_classifier --data DATA --weights VGG16.safetensors --cache FOLDER --run FOLDER

Without `--block5-rate` block 5 stays as it is and only the head learns. With it block 5 is tuned gently as well, from
ImageNet, from a trained detector (`--block5`) or from an earlier run (`--start`). The boxes teach the location map; the
image's label teaches the rest. The weights of the best evaluation are in `classifier.safetensors`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from models.classifier import ClassifierOutput, LocationMapClassifier
from models.vgg import VGG16Block5
from training.cache import Sample, load_vgg
from training.metrics import auc
from training.runs import Average, Maps, Places, Run, available, map_shape, rate_at, read_maps, save_weights

STRIDE = 16  # canvas pixels a cell of block 5's map


@dataclass(frozen=True)
class Config:
    """What was chosen for a run."""

    epochs: int = 12
    batch: int = 16
    rate: float = 1e-3
    block5_rate: float = 0.0
    weight_decay: float = 0.05
    location_weight: float = 1.0
    positive_weight: float = 1.5
    warmup: int = 50
    average: float = 0.995
    seed: int = 11


def location_target(boxes: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Draw the boxes on the map of cells.

    Returns
    -------
    tuple
        Target (rows, columns): 1 where a cell's centre lies in a box or the cell holds a box's centre; weight
        (rows, columns): 0 in the ring of one cell around a box, where either answer is right, 1 elsewhere.
    """
    y = (torch.arange(rows) + 0.5)[:, None] * STRIDE
    x = (torch.arange(columns) + 0.5)[None] * STRIDE
    target, near = torch.zeros(rows, columns), torch.zeros(rows, columns)
    for x1, y1, x2, y2 in boxes.tolist():
        target[(x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)] = 1
        ring = (x >= x1 - STRIDE) & (x <= x2 + STRIDE) & (y >= y1 - STRIDE) & (y <= y2 + STRIDE)
        near[ring] = 1
        row, column = int((y1 + y2) / 2 / STRIDE), int((x1 + x2) / 2 / STRIDE)
        target[min(row, rows - 1), min(column, columns - 1)] = 1
    return target, torch.where((near > 0) & (target == 0), 0.0, 1.0)


class Source:
    """Where samples come from: the trunk's maps from the cache or, under a frozen block 5, its maps kept in memory."""

    def __init__(self, cache: Path, frozen: VGG16Block5 | None) -> None:
        self.cache = cache
        self._block5 = copy.deepcopy(frozen).bfloat16() if frozen else None
        self._kept: dict[str, Maps] = {}

    @torch.no_grad()
    def read(self, sample: Sample) -> Maps:
        """Return the map that the part under training begins with."""
        if self._block5 is None:
            return read_maps(self.cache, sample)
        if sample.key not in self._kept:
            item = read_maps(self.cache, sample)
            self._kept[sample.key] = replace(item, maps=self._block5(item.maps[None])[0])
        return self._kept[sample.key]


def batches(samples: list[Sample], source: Source, config: Config, epoch: int) -> Iterator[list[Maps]]:
    """Yield every sample once, in batches of one canvas shape, in an order drawn from seed and epoch."""
    random = np.random.default_rng([config.seed, epoch])
    by_shape: dict[tuple[int, ...], list[Sample]] = {}
    for index in random.permutation(len(samples)):
        by_shape.setdefault(map_shape(source.cache, samples[index]), []).append(samples[index])
    groups = [
        group[start : start + config.batch]
        for group in by_shape.values()
        for start in range(0, len(group), config.batch)
    ]
    for index in random.permutation(len(groups)):
        yield [source.read(sample) for sample in groups[index]]


def forward(classifier: LocationMapClassifier, maps: Tensor, config: Config) -> ClassifierOutput:
    """Run the classifier from where the source's maps end."""
    maps = maps.contiguous(memory_format=torch.channels_last)
    if not config.block5_rate:
        frozen: ClassifierOutput = classifier.head(maps.float())
        return frozen
    with torch.autocast("cpu", torch.bfloat16):
        deep = classifier.block5(maps)
    tuned: ClassifierOutput = classifier.head(deep.float())
    return tuned


def loss_of(output: ClassifierOutput, batch: list[Maps], config: Config) -> Tensor:
    """Cross-entropy of the image's label plus that of the location map, averaged over boxes' cells and others apart."""
    labels = torch.tensor([float(item.sample.radiograph.fractured) for item in batch])
    image = binary_cross_entropy_with_logits(output.logits, labels, pos_weight=torch.tensor(config.positive_weight))
    location = output.location_logits
    if location is None:
        raise TypeError("this loss needs a head with a location map")
    rows, columns = location.shape[-2:]
    pairs = [location_target(item.boxes, rows, columns) for item in batch]
    target, weight = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    cells = binary_cross_entropy_with_logits(location, target, reduction="none") * weight
    inside = (cells * target).sum() / target.sum().clamp(min=1)
    # One cell in five hundred lies in a box; the others' mean is scaled up so that false alarms are felt.
    outside = 20 * (cells * (1 - target)).mean()
    return image + config.location_weight * 0.5 * (inside + outside)


@torch.no_grad()
def score(
    classifier: LocationMapClassifier, samples: list[Sample], source: Source, config: Config
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels and uncalibrated logits of cached samples."""
    logits = [float(forward(classifier, source.read(s).maps[None], config).logits[0]) for s in samples]
    return np.array([sample.radiograph.fractured for sample in samples]), np.array(logits)


def block5_of(path: Path) -> dict[str, Tensor]:
    """Read the fifth block out of a network's file: the detector's has learnt from boxes what a fracture looks like."""
    prefix = "block5."
    return {name.removeprefix(prefix): t for name, t in load_file(path).items() if name.startswith(prefix)}


def build(places: Places, config: Config) -> tuple[LocationMapClassifier, torch.optim.Optimizer]:
    """Build classifier and optimizer."""
    torch.manual_seed(config.seed)
    vgg = load_vgg(places.weights)
    classifier = LocationMapClassifier(vgg.width)
    classifier.block5.load_state_dict(block5_of(places.block5) if places.block5 else vgg.block5.state_dict())
    if places.start:
        classifier.load_state_dict(load_file(places.start))
    classifier.block5.requires_grad_(config.block5_rate > 0)
    groups = [{"params": list(classifier.head.parameters()), "lr": config.rate, "base": config.rate}]
    if config.block5_rate:
        base = config.block5_rate
        groups.append({"params": list(classifier.block5.parameters()), "lr": base, "base": base})
    return classifier, torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def run(places: Places, config: Config) -> None:
    """Train, measure after each epoch, keep the best averaged weights."""
    record = Run(places.run, asdict(config))
    classifier, optimizer = build(places, config)
    average = Average(classifier, config.average)
    samples = available(places.data, places.cache, "train")
    valid = [sample for sample in available(places.data, places.cache, "valid") if not sample.radiograph.truncated]
    source = Source(places.cache, None if config.block5_rate else classifier.block5)
    total, step, best = config.epochs * (len(samples) // config.batch + 1), 0, 0.0
    for epoch in range(config.epochs):
        classifier.train()
        losses = []
        for batch in tqdm(batches(samples, source, config, epoch), desc=f"epoch {epoch}", mininterval=5):
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * rate_at(step, total, config.warmup)
            loss = loss_of(forward(classifier, torch.stack([item.maps for item in batch]), config), batch, config)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(classifier.parameters(), 5.0)
            optimizer.step()
            step += 1
            average.update(classifier, step)
            losses.append(float(loss.detach()))
        area = auc(*score(average.module, valid, source, config))
        record.record(epoch=epoch, samples=len(samples), loss=float(np.mean(losses)), auc=area)
        if area > best:
            best = area
            save_weights(average.module, places.run / "classifier.safetensors")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--weights", type=Path, required=True, help="VGG16 ImageNet features (safetensors)")
    parser.add_argument("--cache", type=Path, required=True, help="folder that training.cache has filled")
    parser.add_argument("--run", type=Path, required=True, help="folder for weights and run.json")
    parser.add_argument("--start", type=Path, help="classifier.safetensors of an earlier run to go on from")
    parser.add_argument("--block5", type=Path, help="detector.safetensors whose block 5 is the start")
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    parser.add_argument("--rate", type=float, default=Config.rate)
    parser.add_argument("--block5-rate", type=float, default=Config.block5_rate)
    parser.add_argument("--location-weight", type=float, default=Config.location_weight)
    parser.add_argument("--seed", type=int, default=Config.seed)
    given = parser.parse_args()
    config = Config(
        epochs=given.epochs,
        rate=given.rate,
        block5_rate=given.block5_rate,
        location_weight=given.location_weight,
        seed=given.seed,
    )
    run(Places(given.data, given.weights, given.cache, given.run, given.start, given.block5), config)


if __name__ == "__main__":
    main()
