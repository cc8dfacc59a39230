"""What a detector's training starts from: ImageNet's weights, or an earlier run's or bundle's detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.detector import FasterRCNNDetector
from models.trunk import Trunk
from training.backbones import BACKBONES
from training.bundle.parts import Design, averaged, read_part
from training.detector.options import BACKBONE, DetectorConfig
from training.errors import CannotTrain, expecting
from training.loop import Places


class Detector(nn.Module):
    """A trunk and the network on it, together as they are trained."""

    def __init__(self, trunk: Trunk, network: FasterRCNNDetector) -> None:
        super().__init__()
        self.trunk = trunk
        self.network = network

    def forward(self, images: Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Take images (n, 3, rows, columns); see `FasterRCNNDetector.forward`."""
        sizes = [(int(images.shape[2]), int(images.shape[3]))] * len(images)
        return self.network(self.trunk(images), sizes, targets)


def build(places: Places, config: DetectorConfig) -> tuple[Detector, Design]:
    """Build the detector of an earlier run or a bundle, or a new one on ImageNet's weights."""
    torch.manual_seed(config.seed)
    detector, design = _continued(places.start, config) if places.start else _begun(places.weights, config)
    BACKBONES[design.trunk].freeze(detector.trunk, detector.network.deeper)
    return detector, design


def _begun(weights: Path | None, config: DetectorConfig) -> tuple[Detector, Design]:
    if weights is None:
        raise CannotTrain("a detector needs --weights, its backbone's ImageNet weights, or --start")
    name = config.backbone or BACKBONE
    backbone = BACKBONES[name]
    with expecting(f"ImageNet's weights of {name}", weights):
        trunk, network, width = backbone.build(weights, config.stages)
    return Detector(trunk, network), Design(
        backbone.architecture, name, config.preprocessing, _stages_of(config), width
    )


def _continued(folders: Sequence[Path], config: DetectorConfig) -> tuple[Detector, Design]:
    """Build what the folders hold, with this run's input and stages."""
    parts = []
    for folder in folders:
        with expecting("a detector to start from", folder):
            parts.append(read_part(folder, "detector"))
    with expecting("a network like the first one", folders[-1]):
        part = averaged(parts)
    before = part.design
    if config.backbone not in {None, before.trunk}:
        raise CannotTrain(f"the detector to start from stands on {before.trunk}, not on {config.backbone}")
    if (stages := before.options.get("stages", 1)) > config.stages:
        raise CannotTrain(f"the detector to start from has {stages} stages: --stages {stages}")
    kept = {name: value for name, value in before.options.items() if name != "stages"}
    design = replace(before, preprocessing=config.preprocessing, options={**kept, **_stages_of(config)})
    with expecting("a detector to start from", folders[0]):
        backbone = BACKBONES[design.trunk]
        trunk, network = backbone.trunk(design.width), backbone.detector(design.width, **design.options)
        trunk.load_state_dict(part.trunk)
        network.begin_from(part.network)
    return Detector(trunk, network), design


def _stages_of(config: DetectorConfig) -> dict[str, int | float]:
    return {"stages": config.stages} if config.stages > 1 else {}
