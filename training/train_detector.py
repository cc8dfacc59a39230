"""Train Faster R-CNN on the cached maps of the frozen trunk.

    python -m training.train_detector --data DATA --weights VGG16.safetensors --cache FOLDER --run FOLDER

Block 5 of VGG16 starts from ImageNet and is tuned gently; pyramid, proposals and box heads start from chance. Run
again, it goes on from its checkpoint. The averaged weights of the best evaluation are in `detector.safetensors`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from models.detector import FasterRCNNDetector, detections_of
from training.cache import Sample, load_vgg
from training.metrics import BoxesOfImage, average_precision, free_response
from training.runs import (
    Average,
    Maps,
    Places,
    Run,
    available,
    load_checkpoint,
    map_shape,
    rate_at,
    read_maps,
    save_checkpoint,
    save_weights,
)


@dataclass(frozen=True)
class Config:
    """What was chosen for a run."""

    steps: int = 6000
    batch: int = 2
    negatives: float = 0.3  # share of images without a fracture
    rate: float = 3e-4
    block5_rate: float = 3e-5
    weight_decay: float = 0.02
    warmup: int = 150
    average: float = 0.998
    evaluate_every: int = 1000
    checkpoint_every: int = 250
    seed: int = 7


def batches(samples: list[Sample], cache: Path, config: Config, first_step: int) -> Iterator[list[Maps]]:
    """Yield batches of one canvas shape for ever; the same seed, step and samples give the same batch."""
    positives = [sample for sample in samples if sample.radiograph.boxes_xyxy]
    negatives = [sample for sample in samples if not sample.radiograph.fractured]
    for step in itertools.count(first_step):
        random = np.random.default_rng([config.seed, step])
        drawn: list[Sample] = []
        for _ in range(10 * config.batch):  # an image of a rare shape may stay alone
            pool = negatives if random.random() < config.negatives else positives
            sample = pool[random.integers(len(pool))]
            if not drawn or map_shape(cache, sample) == map_shape(cache, drawn[0]):
                drawn.append(sample)
            if len(drawn) == config.batch:
                break
        yield [read_maps(cache, sample) for sample in drawn]


def train_step(detector: FasterRCNNDetector, optimizer: torch.optim.Optimizer, batch: list[Maps]) -> float:
    """Take one step; returns the sum of the four losses."""
    maps = torch.stack([item.maps for item in batch]).contiguous(memory_format=torch.channels_last)
    sizes = [(8 * maps.shape[-2], 8 * maps.shape[-1])] * len(batch)
    targets = [{"boxes": item.boxes, "labels": torch.ones(len(item.boxes), dtype=torch.int64)} for item in batch]
    with torch.autocast("cpu", torch.bfloat16):
        _, losses = detector(maps, sizes, targets)
    loss = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
    optimizer.step()
    return float(loss.detach())


@torch.inference_mode()
def detect(detector: FasterRCNNDetector, samples: list[Sample], cache: Path) -> list[BoxesOfImage]:
    """Run the detector over cached samples; boxes in canvas pixels."""
    found = []
    for sample in tqdm(samples, desc="valid", leave=False, mininterval=5):
        item = read_maps(cache, sample)
        rows, columns = 8 * item.maps.shape[-2], 8 * item.maps.shape[-1]
        with torch.autocast("cpu", torch.bfloat16):
            detections, _ = detector(item.maps[None], [(rows, columns)])
        boxes, scores = detections_of(detections[0])
        found.append(BoxesOfImage(boxes.double().numpy(), scores.double().numpy(), item.boxes.double().numpy()))
    return found


def evaluate(detector: FasterRCNNDetector, samples: list[Sample], cache: Path) -> dict[str, float]:
    """Measure boxes on all images and on the fractured ones alone."""
    images = detect(detector, samples, cache)
    fractured = [image for image in images if len(image.truth)]
    rates = (0.1, 0.25, 0.5, 1.0)
    return {
        "map50": average_precision(images),
        "map50_fractured_only": average_precision(fractured),
        **{f"sensitivity_at_{rate}": s for rate, s in zip(rates, free_response(images, rates), strict=True)},
    }


def build(places: Places, config: Config) -> tuple[FasterRCNNDetector, torch.optim.Optimizer]:
    """Build detector and optimizer; block 5 has a rate of its own."""
    torch.manual_seed(config.seed)
    vgg = load_vgg(places.weights)
    detector = FasterRCNNDetector(vgg.width)
    detector.block5.load_state_dict(vgg.block5.state_dict())
    if places.start:
        detector.load_state_dict(load_file(places.start))
    detector.to(memory_format=torch.channels_last)
    fresh = [parameter for name, parameter in detector.named_parameters() if not name.startswith("block5.")]
    groups = [
        {"params": list(detector.block5.parameters()), "lr": config.block5_rate, "base": config.block5_rate},
        {"params": fresh, "lr": config.rate, "base": config.rate},
    ]
    return detector, torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def run(places: Places, config: Config) -> None:
    """Train, evaluate now and then, keep the best averaged weights."""
    record = Run(places.run, asdict(config))
    places.run.mkdir(parents=True, exist_ok=True)
    detector, optimizer = build(places, config)
    average = Average(detector, config.average)
    first, best = 0, -1.0
    if state := load_checkpoint(places.run / "checkpoint.pt"):
        detector.load_state_dict(state["detector"])
        average.module.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first, best, record.history = state["step"], state["best"], state["history"]
    samples = available(places.data, places.cache, "train")
    valid = [sample for sample in available(places.data, places.cache, "valid") if not sample.radiograph.truncated]
    losses: list[float] = []
    steps = tqdm(range(first + 1, config.steps + 1), initial=first, total=config.steps, unit="step", mininterval=5)
    for step, batch in zip(steps, batches(samples, places.cache, config, first), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * rate_at(step, config.steps, config.warmup)
        losses.append(train_step(detector, optimizer, batch))
        average.update(detector, step)
        last = step == config.steps
        if last or step % config.evaluate_every == 0:
            figures = evaluate(average.module, valid, places.cache)
            record.record(step=step, samples=len(samples), loss=float(np.mean(losses[-500:])), **figures)
            if figures["map50"] > best:
                best = figures["map50"]
                save_weights(average.module, places.run / "detector.safetensors")
        if last or step % config.checkpoint_every == 0:
            state = {"detector": detector.state_dict(), "average": average.module.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "step": step, "best": best, "history": record.history}
            save_checkpoint(places.run / "checkpoint.pt", state)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--weights", type=Path, required=True, help="VGG16 ImageNet features (safetensors)")
    parser.add_argument("--cache", type=Path, required=True, help="folder that training.cache has filled")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint, weights and run.json")
    parser.add_argument("--start", type=Path, help="detector.safetensors of an earlier run to go on from")
    parser.add_argument("--steps", type=int, default=Config.steps)
    parser.add_argument("--rate", type=float, default=Config.rate)
    parser.add_argument("--block5-rate", type=float, default=Config.block5_rate)
    parser.add_argument("--seed", type=int, default=Config.seed)
    given = parser.parse_args()
    config = Config(steps=given.steps, rate=given.rate, block5_rate=given.block5_rate, seed=given.seed)
    run(Places(given.data, given.weights, given.cache, given.run, given.start), config)


if __name__ == "__main__":
    main()
