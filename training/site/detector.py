"""Tune the detector on a site's boxes: pyramid, proposals, box heads and the deeper layers; the trunk stays."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

from models.bundle import Bundle
from models.preprocess import Preprocessing
from training.bundle.parts import Design, read_part
from training.data.chips import ImageCache
from training.data.dataset import Radiograph
from training.detector.options import DetectorConfig
from training.detector.start import Detector
from training.detector.train import DetectorTraining
from training.hardware import Hardware
from training.runs import Run
from training.site.classifier import Tuned
from training.site.progress import Progress
from training.site.split import Split

# Beside a few dozen boxes a mean over the last thousand steps would be the start itself.
AVERAGE = 0.99


@dataclass(frozen=True)
class BoxConfig(DetectorConfig):
    """How the detector is tuned: as it was trained, shorter and at a fifth of the rates."""

    steps: int = 400
    rate: float = 1e-4
    backbone_rate: float = 4e-5
    warmup: int = 40
    average: float = AVERAGE
    evaluate_every: int = 100
    checkpoint_minutes: float = 1.0
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


class SiteDetectorTraining(DetectorTraining):
    """The bundle's detector while it is tuned; its own figure stands first in the history."""

    evaluates_first = True


def training_of(bundle: Bundle, split: Split, config: BoxConfig, on: Hardware, folder: Path) -> SiteDetectorTraining:
    """Build the training on the bundle's detector, or what an interrupted one has left in the folder."""
    entry = bundle.manifest.detector
    design = Design(entry.architecture, entry.trunk.architecture, config.preprocessing, dict(entry.options))
    detector = Detector(copy.deepcopy(bundle.detector_trunk), copy.deepcopy(bundle.detector))
    detector.network.requires_grad_(True)
    train, tune = ([item for item in part if speaks_of_boxes(item)] for part in (split.train, split.tune))
    record = Run(folder, title="A site's detector", say=lambda _: None)
    images = ImageCache(train, config.preprocessing)
    return SiteDetectorTraining(record, config, on, (detector, design), (images, {"tune": tune}))


def tune_detector(bundle: Bundle, split: Split, config: BoxConfig, on: Hardware, progress: Progress) -> Tuned:
    """Tune on train, choose by mAP50 on tune; the old weights stay where nothing is better, or no boxes are drawn.

    Raises
    ------
    KeyboardInterrupt
        It was asked to stop, and has written its checkpoint.
    """
    if not all(any(item.boxes_xyxy for item in part) for part in (split.train, split.tune)):
        return Tuned(bundle.detector, None, None, changed=False)
    training = training_of(bundle, split, config, on, progress.detector)
    if not training.run():
        raise KeyboardInterrupt
    network = copy.deepcopy(bundle.detector)
    network.load_state_dict(read_part(progress.detector, "detector").network)
    before, after = training.record.history[0]["map50"], training.best
    return Tuned(network.eval().requires_grad_(False), before, after, changed=after > before)


def speaks_of_boxes(radiograph: Radiograph) -> bool:
    """Say whether an image can teach or test boxes: a fracture that nobody has drawn would count as none."""
    return bool(radiograph.boxes_xyxy) or not radiograph.fractured
