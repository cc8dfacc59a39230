"""Tune the detector on a site's boxes: pyramid, proposals, box heads and the deeper layers; the trunk stays."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from models.bundle import Bundle
from models.preprocess import Preprocessing
from training.data.chips import Chip, ImageCache
from training.data.dataset import Radiograph
from training.detector import start as detector_start
from training.detector import train as train_detector
from training.detector.options import Config
from training.evaluate.metrics import average_precision
from training.hardware import Hardware
from training.runs import Average, rate_at
from training.site.classifier import Tuned
from training.site.progress import Progress
from training.site.split import Split

# Beside a few dozen boxes a mean over the last thousand steps would be the start itself.
AVERAGE = 0.99


@dataclass(frozen=True)
class BoxConfig(Config):
    """How the detector is tuned: as it was trained, shorter and at a fifth of the rates."""

    steps: int = 400
    rate: float = 1e-4
    backbone_rate: float = 4e-5
    warmup: int = 40
    average: float = AVERAGE
    evaluate_every: int = 100
    checkpoint_every: int = 20
    prepared_as: Preprocessing | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how the bundle prepares images for this network."""
        return self.prepared_as or Preprocessing(self.longest_side)


def config_for(bundle: Bundle, steps: int, seed: int) -> BoxConfig:
    """Take the input of the bundle's detector; chips are never larger than its images."""
    prepared_as = bundle.manifest.detector.preprocessing.build()
    side = prepared_as.longest_side
    return BoxConfig(
        backbone=bundle.manifest.detector.trunk.architecture,
        longest_side=side,
        chip=min(BoxConfig.chip, side // 32 * 32),
        steps=steps,
        evaluate_every=max(1, min(BoxConfig.evaluate_every, steps // 4)),
        warmup=max(1, min(BoxConfig.warmup, steps // 10)),
        seed=seed,
        prepared_as=prepared_as,
    )


class Tuning:
    """The detector while it is tuned: what learns, its average, and the best average so far."""

    def __init__(
        self, bundle: Bundle, tune: list[Radiograph], config: BoxConfig, on: Hardware, progress: Progress
    ) -> None:
        self.tune, self.config, self.on, self.progress = tune, config, on, progress
        self.detector = detector_start.Detector(copy.deepcopy(bundle.detector_trunk), copy.deepcopy(bundle.detector))
        on.place(self.detector)
        self.step = 0
        earlier = progress.load("detector")
        self.before = self.best = earlier["before"] if earlier else self.judge(self.detector.eval())
        self.kept = copy.deepcopy(self.detector.network.state_dict())
        self.detector.network.requires_grad_(True)
        self.optimizer = train_detector.optimizer_of(self.detector, config)
        self.average = Average(self.detector, config.average)
        if earlier:
            self._go_on(earlier)
        self.detector.train()

    def _go_on(self, earlier: dict[str, Any]) -> None:
        self.detector.load_state_dict(earlier["detector"])
        self.average.module.load_state_dict(earlier["average"])
        self.optimizer.load_state_dict(earlier["optimizer"])
        self.step, self.best, self.kept = earlier["step"], earlier["best"], earlier["kept"]

    def save(self) -> None:
        """Write a checkpoint."""
        states = {
            "detector": self.detector.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        kept = {"step": self.step, "before": self.before, "best": self.best, "kept": self.kept}
        self.progress.save("detector", {**states, **kept})

    def judge(self, detector: detector_start.Detector) -> float:
        """Return the mAP50 of a detector in evaluation mode."""
        return average_precision(train_detector.detect(detector, self.tune, self.config, self.on))

    def learn(self, chips: list[Chip]) -> None:
        """Take one step."""
        self.step += 1
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * rate_at(self.step, self.config.steps, self.config.warmup)
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)  # the samplers of proposals and boxes draw from it
        train_detector.train_step(self.detector, self.optimizer, chips, self.on)
        self.average.update(self.detector, self.step)

    def keep_if_better(self) -> float:
        """Measure the averaged weights and keep them if they are the best so far."""
        reached = self.judge(self.average.module)
        if reached > self.best:
            self.best, self.kept = reached, copy.deepcopy(self.average.module.network.state_dict())
        return reached

    def result(self) -> Tuned:
        """Return the best weights."""
        self.detector.network.load_state_dict(self.kept)
        network = self.detector.network.cpu().eval().requires_grad_(False)
        return Tuned(network, self.before, self.best, changed=self.best > self.before)


def tune_detector(bundle: Bundle, split: Split, config: BoxConfig, on: Hardware, progress: Progress) -> Tuned:
    """Tune on train, choose by mAP50 on tune; the old weights stay where nothing is better, or no boxes are drawn."""
    train, tune = (list(filter(speaks_of_boxes, part)) for part in (split.train, split.tune))
    if not any(item.boxes_xyxy for item in train) or not any(item.boxes_xyxy for item in tune):
        return Tuned(bundle.detector, None, None, changed=False)
    tuning = Tuning(bundle, tune, config, on, progress)
    chips_of = train_detector.batches(ImageCache(train, config.preprocessing), config, tuning.step)
    with tqdm(chips_of, initial=tuning.step, total=config.steps, desc="detector", unit="step", disable=None) as bar:
        for chips in bar:
            tuning.learn(chips)
            last = tuning.step == config.steps
            if last or tuning.step % config.evaluate_every == 0:
                bar.set_postfix({"tune mAP50": f"{tuning.keep_if_better():.4f}", "before": f"{tuning.before:.4f}"})
            if last or tuning.step % config.checkpoint_every == 0:
                tuning.save()
    return tuning.result()


def speaks_of_boxes(radiograph: Radiograph) -> bool:
    """Say whether an image can teach or test boxes: a fracture that nobody has drawn would count as none."""
    return bool(radiograph.boxes_xyxy) or not radiograph.fractured
