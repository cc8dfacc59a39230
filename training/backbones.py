"""The backbones a detector can stand on, and where their ImageNet weights go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from models.detector import FasterRCNNDetector, MobileNetV2Detector, VGG16Detector
from models.mobilenet import STRIDE8_STOP, STRIDE16_STOP, STRIDE32_STOP, MobileNetV2Trunk
from models.vgg import BLOCK5_START, VGG16Trunk

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Backbone:
    """A trunk, a detector on it (and its name in a bundle), and the way of ImageNet's tensors into both."""

    architecture: str
    trunk: Callable[[float], nn.Module]
    detector: Callable[..., FasterRCNNDetector]
    width: Callable[[Tensors], float]
    split: Callable[[Tensors], tuple[Tensors, Tensors]]
    frozen: int  # so many of the trunk's first layers stay as ImageNet left them: edges are edges

    def build(self, weights: Path, stages: int = 1) -> tuple[nn.Module, FasterRCNNDetector, float]:
        """Build trunk, detector and their width from a file with torchvision's names (`features.*`)."""
        tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
        width = self.width(tensors)
        trunk, detector = self.trunk(width), self.detector(width, stages=stages)
        below, above = self.split(tensors)
        trunk.load_state_dict(below)
        detector.deeper.load_state_dict(above)
        return trunk, detector, width

    def freeze(self, trunk: nn.Module) -> None:
        """Keep the first layers: they hold most of a backward pass's cost and least of what is to be learnt."""
        trunk.get_submodule("features")[: self.frozen].requires_grad_(False)  # type: ignore[index]


def _split_vgg16(tensors: Tensors) -> tuple[Tensors, Tensors]:
    below = {name: tensor for name, tensor in tensors.items() if int(name.split(".")[1]) < BLOCK5_START}
    return below, {name: tensor for name, tensor in tensors.items() if name not in below}


def _split_mobilenet_v2(tensors: Tensors) -> tuple[Tensors, Tensors]:
    below: Tensors = {}
    above: Tensors = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind != "features" or name.endswith("num_batches_tracked"):
            continue  # ImageNet's own classes, and a count that frozen statistics do not keep
        index = int(rest.partition(".")[0])
        if index < STRIDE8_STOP:
            below[name] = tensor
        elif index < STRIDE16_STOP:
            above[f"stride16.{rest}"] = tensor
        elif index < STRIDE32_STOP:
            above[f"stride32.{rest}"] = tensor
    return below, above


BACKBONES = {
    "vgg16": Backbone(
        "faster_rcnn_vgg16_fpn",
        VGG16Trunk,
        VGG16Detector,
        lambda tensors: tensors["features.0.weight"].shape[0] / 64,
        _split_vgg16,
        10,
    ),
    "mobilenet_v2": Backbone(
        "faster_rcnn_mobilenet_v2_fpn",
        MobileNetV2Trunk,
        MobileNetV2Detector,
        lambda tensors: tensors["features.0.0.weight"].shape[0] / 32,
        _split_mobilenet_v2,
        4,
    ),
}
