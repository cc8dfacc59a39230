"""Train Faster R-CNN with a feature pyramid on chips cut from the training images.

    python -m training.detector.train --data DATA --backbone mobilenet_v2 --weights MOBILENET.safetensors --run FOLDER

The backbone starts from ImageNet and is tuned at a rate of its own; pyramid, proposals and box heads start from chance.
Or all of it is that of an earlier run or a bundle (`--start` instead of `--weights`), to which `--stages 2
--last-stage-only` adds a second stage of box heads in minutes. Run again, it goes on from its checkpoint. The averaged
weights of the best evaluation are in the run's folder, which `training.bundle.export` takes. Best is what has the
highest mAP50 on valid and tune together.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from models.detector import detections_of
from models.preprocess import normalise, prepare
from training.backbones import BACKBONES
from training.bundle.parts import write_part
from training.data.augment import Geometry
from training.data.chips import Chip, Cutter, FileAlbum, ImageCache, Look, Prepared
from training.data.dataset import Radiograph, for_training, for_tuning, whole_files
from training.detector.options import BACKBONE, Config, Places, read_options
from training.detector.start import Detector, build
from training.errors import CannotTrain, ending_in_words, require_finite
from training.evaluate.curves import write_curves
from training.evaluate.metrics import (
    BoxesOfImage,
    average_precision,
    free_response,
    mean_average_precision,
    points_at,
)
from training.hardware import Hardware
from training.runs import SCHEDULES, Average, Run, load_checkpoint, origin_of, save_checkpoint, stop_asked


def draw(image_cache: ImageCache, cutter: Cutter, config: Config, step: int) -> list[Chip]:
    """Cut one batch; the same seed and step give the same chips."""
    chips = []
    for number in range(config.batch):
        random = np.random.default_rng([config.seed, step, number])
        kind = random.random()
        if kind < config.negatives:
            chips.append(cutter.anywhere(_one_of(image_cache, image_cache.normal, random), random))
        elif kind < config.negatives + config.elsewhere:
            chips.append(cutter.anywhere(_one_of(image_cache, image_cache.fractured, random), random))
        elif kind < 1 - config.pasted:
            chips.append(cutter.around_fracture(_one_of(image_cache, image_cache.fractured, random), random))
        else:
            ground = _one_of(image_cache, image_cache.normal, random)
            chips.append(cutter.pasted(ground, _one_of(image_cache, image_cache.fractured, random), random))
    return chips


def album_of(radiographs: list[Radiograph], config: Config) -> ImageCache:
    """Keep the images that chips are cut from, at the resolution that `cutter_of` asks for."""
    if config.sides is None:
        return ImageCache(radiographs, config.preprocessing)
    return FileAlbum(radiographs, replace(config.preprocessing, longest_side=config.sides[1]))


def cutter_of(config: Config) -> Cutter:
    """Cut chips at one scale, or at scales that the zoom then only blurs."""
    if config.sides is None:
        return Cutter(config.chip, Geometry())
    return Cutter(config.chip, Geometry(degrees=25.0, zoom=1.1), Look(config.sides, config.preprocessing))


def _one_of(image_cache: ImageCache, radiographs: list[Radiograph], random: np.random.Generator) -> Prepared:
    return image_cache.get(radiographs[random.integers(len(radiographs))])


def batches(image_cache: ImageCache, config: Config, first: int) -> Iterator[list[Chip]]:
    """Yield batches for ever, the next one cut while the last one is learnt."""
    cutter = cutter_of(config)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(draw, image_cache, cutter, config, first)
        for step in range(first + 1, config.steps + 1):
            ready = coming.result()
            coming = pool.submit(draw, image_cache, cutter, config, step)
            yield ready


def train_step(
    detector: Detector, optimizer: torch.optim.Optimizer, chips: list[Chip], on: Hardware
) -> dict[str, float]:
    """Take one step; returns the four losses."""
    images = on.images(
        torch.from_numpy(np.stack([normalise(chip.pixels, detector.trunk.normalisation) for chip in chips]))
    )
    targets = [
        {
            "boxes": torch.from_numpy(chip.boxes_xyxy).to(on.device),
            "labels": torch.ones(len(chip.boxes_xyxy), dtype=torch.int64, device=on.device),
        }
        for chip in chips
    ]
    with on.autocast():
        _, losses = detector(images, targets)
    loss = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
    optimizer.step()
    values = {name: float(value.detach()) for name, value in losses.items()}
    require_finite(values)
    return values


@torch.inference_mode()
def detect(detector: Detector, radiographs: list[Radiograph], config: Config, on: Hardware) -> list[BoxesOfImage]:
    """Run the detector over whole images; boxes in pixels of the files."""
    found = []
    for radiograph in tqdm(radiographs, desc="valid", unit="image", leave=False, mininterval=5, disable=None):
        canvas, letterbox = prepare(radiograph.pixels(), config.preprocessing)
        images = on.images(torch.from_numpy(normalise(canvas, detector.trunk.normalisation))[None])
        with on.autocast():
            detections, _ = detector.network(detector.trunk(images), [(letterbox.rows, letterbox.columns)])
        boxes, scores = detections_of(detections[0])
        found.append(
            BoxesOfImage(
                letterbox.to_source(boxes.double().cpu().numpy()),
                scores.double().cpu().numpy(),
                np.array(radiograph.boxes_xyxy, dtype=np.float64).reshape(-1, 4),
            )
        )
    return found


def figures_of(images: list[BoxesOfImage]) -> dict[str, Any]:
    """Measure boxes on all images and on the fractured ones alone."""
    fractured = [image for image in images if len(image.truth)]
    rates = (0.1, 0.25, 0.5, 1.0)
    return {
        "map50": average_precision(images),
        "map50_95": mean_average_precision(images),
        "map50_fractured_only": average_precision(fractured),
        "free_response": dict(zip(map(str, rates), free_response(images, rates), strict=True)),
        "free_response_iou30_or_centre": dict(
            zip(map(str, rates), free_response(images, rates, 0.3, points_at), strict=True)
        ),
    }


def set_to_learn(detector: Detector, config: Config) -> None:
    """Turn what shall learn to training; the rest only answers."""
    if config.last_stage_only:
        detector.eval().requires_grad_(False)
        detector.network.stages[-1].train().requires_grad_(True)
    else:
        detector.train()


def optimizer_of(detector: Detector, config: Config) -> torch.optim.Optimizer:
    """Give the layers that come from ImageNet a lower rate than those that start from chance."""
    pretrained = [p for p in (*detector.trunk.parameters(), *detector.network.deeper.parameters()) if p.requires_grad]
    known = {id(parameter) for parameter in pretrained}
    fresh = [parameter for parameter in detector.parameters() if id(parameter) not in known and parameter.requires_grad]
    backbone = BACKBONES[config.backbone or BACKBONE]
    rates: dict[float, list[nn.Parameter]] = defaultdict(list)
    for parameter in pretrained:
        rates[config.backbone_rate * backbone.steps(parameter)].append(parameter)
    rates[config.rate] += fresh
    groups = [{"params": each, "lr": rate, "base": rate} for rate, each in rates.items() if each]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


class Training:
    """A run's state between two steps: everything that an interrupted run needs to go on as if nothing had been."""

    def __init__(self, places: Places, config: Config, on: Hardware) -> None:
        self.places, self.on = places, on
        self.detector, self.design = build(places, config)
        self.config = config = replace(config, backbone=self.design.trunk)
        title = f"Detector on {config.backbone}"
        origin = origin_of(places.weights, places.start)
        self.record = Run(places.run, {**asdict(config), **on.describe()}, places.data, title=title, origin=origin)
        on.place(self.detector)
        set_to_learn(self.detector, config)
        self.optimizer = optimizer_of(self.detector, config)
        self.average = Average(self.detector, config.average)
        self.step, self.best = 0, -1.0
        self.losses: list[dict[str, float]] = []
        if state := load_checkpoint(self._checkpoint):
            if not config.goes_on_from(state["config"]):
                raise CannotTrain(f"{places.run} holds a run of another configuration: name another folder")
            if state.get("started_from", origin) != origin:
                raise CannotTrain(f"{places.run} holds a run that began with other weights: name another folder")
            self.detector.load_state_dict(state["detector"])
            self.average.module.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.best, self.losses = state["step"], state["best"], state["losses"]
            self.record.resume(state["history"], state.get("seconds"))
            self.record.metrics = state.get("metrics", {})  # older checkpoints have none

    @property
    def _checkpoint(self) -> Path:
        return self.places.run / "checkpoint.pt"

    def learn(self, chips: list[Chip]) -> float:
        """Take one step; returns its loss."""
        self.step += 1
        factor = SCHEDULES[self.config.schedule](self.step, self.config.steps, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)  # the samplers of proposals and boxes draw from it
        self.losses.append(train_step(self.detector, self.optimizer, chips, self.on))
        self.average.update(self.detector, self.step)
        return sum(self.losses[-1].values())

    def judge(self, blocks: Mapping[str, list[Radiograph]]) -> None:
        """Measure the averaged weights on all blocks together, and on each; keep them if they are the best so far."""
        found = {name: detect(self.average.module, block, self.config, self.on) for name, block in blocks.items()}
        figures = figures_of([image for block in found.values() for image in block])
        if len(found) > 1:
            figures["blocks"] = {name: figures_of(images) for name, images in found.items()}
        means = {name: float(np.mean([loss[name] for loss in self.losses])) for name in self.losses[0]}
        self.losses = []
        self.record.record(step=self.step, **means, **figures)
        write_curves(self.places.run)
        if figures["map50"] > self.best:
            self.best = figures["map50"]
            averaged = self.average.module
            write_part("detector", self.design, averaged.trunk, averaged.network, self.places.run)
            self.record.finish(step=self.step, **figures)

    def save(self) -> None:
        """Write the checkpoint."""
        modules: dict[str, nn.Module | torch.optim.Optimizer] = {
            "detector": self.detector,
            "average": self.average.module,
            "optimizer": self.optimizer,
        }
        kept = {
            "step": self.step,
            "best": self.best,
            "losses": self.losses,
            "history": self.record.history,
            "seconds": self.record.seconds,
            "metrics": self.record.metrics,
            "started_from": self.record.origin,
        }
        states = {name: module.state_dict() for name, module in modules.items()}
        save_checkpoint(self._checkpoint, {**states, **kept, "config": asdict(self.config)})


def run(places: Places, config: Config) -> None:
    """Train, evaluate now and then, keep the best averaged weights."""
    places.run.mkdir(parents=True, exist_ok=True)
    training = Training(places, config, Hardware.repeatable(places.device))
    image_cache = album_of(for_training(places.data), config)
    if config.negatives + config.pasted > 0 or not image_cache.fractured:
        image_cache.require_both()
    blocks = {"valid": whole_files(places.data, "valid"), "tune": for_tuning(places.data)}
    blocks = {name: block for name, block in blocks.items() if block}
    due = time.monotonic() + 60 * config.checkpoint_minutes
    with stop_asked() as stop, tqdm(initial=training.step, total=config.steps, unit="step", mininterval=5) as bar:
        for chips in batches(image_cache, config, training.step):
            bar.set_postfix({"loss": f"{training.learn(chips):.2f}"}, refresh=False)
            bar.update()
            last = training.step == config.steps
            judging = last or training.step % config.evaluate_every == 0
            if judging:
                training.judge(blocks)
            if judging or stop.is_set() or time.monotonic() >= due:
                training.save()
                due = time.monotonic() + 60 * config.checkpoint_minutes
            if stop.is_set():
                break


def main() -> None:
    """Read the command line."""
    with ending_in_words():
        run(*read_options(__doc__))


if __name__ == "__main__":
    main()
