"""The backbones a detector can stand on, and where their ImageNet weights go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from models.detector import EfficientNetLite2Detector, FasterRCNNDetector, MobileNetV2Detector, VGG16Detector
from models.efficientnet import EfficientNetLite2Deep, EfficientNetLite2Trunk
from models.mobilenet import STRIDE8_STOP, STRIDE16_STOP, STRIDE32_STOP, MobileNetV2Trunk
from models.trunk import Trunk
from models.vgg import BLOCK5_START, VGG16Trunk

Tensors = dict[str, Tensor]
USUAL_SIZE = 0.1  # the root mean square of a convolution's weights in front of a norm


@dataclass(frozen=True, slots=True)
class Backbone:
    """A trunk, a detector on it (and its name in a bundle), and the way of ImageNet's tensors into both."""

    architecture: str
    trunk: Callable[[float], Trunk]
    detector: Callable[..., FasterRCNNDetector]
    width: Callable[[Tensors], float]
    split: Callable[[Tensors], tuple[Tensors, Tensors]]
    frozen: int  # so many of the trunk's first layers stay as ImageNet left them: edges are edges
    folded: bool = False  # its norms are in its convolutions, whose weights' sizes then differ by forty times

    def build(self, weights: Path, stages: int = 1) -> tuple[Trunk, FasterRCNNDetector, float]:
        """Build trunk, detector and their width from a file with the library's names (`features.*` in torchvision)."""
        tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
        width = self.width(tensors)
        trunk, detector = self.trunk(width), self.detector(width, stages=stages)
        below, above = self.split(tensors)
        trunk.load_state_dict(below)
        detector.deeper.load_state_dict(above)
        return trunk, detector, width

    def steps(self, parameter: nn.Parameter) -> float:
        """Return the factor of the rate at which a layer from ImageNet learns.

        An optimiser like Adam moves every weight by the rate, whatever its size. Behind a norm sizes are alike;
        with the norm folded, the rate follows the layer's size, else small layers would forget and large ones stand.
        """
        if not self.folded or parameter.dim() < 4:
            return 1.0
        return float(parameter.detach().square().mean().sqrt()) / USUAL_SIZE

    def freeze(self, trunk: nn.Module, deeper: nn.Module) -> None:
        """Keep the first layers: they hold most of a backward pass's cost and least of what is to be learnt.

        So do depthwise convolutions of 5 x 5: the gradient of their few weights was two fifths of a step on a CPU.
        """
        trunk.get_submodule("features")[: self.frozen].requires_grad_(False)  # type: ignore[index]
        for layer in (*trunk.modules(), *deeper.modules()):
            if isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.kernel_size == (5, 5):
                layer.requires_grad_(False)


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


def _split_efficientnet_lite2(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """Fold timm's tensors (whole network) on their way."""
    below, above = EfficientNetLite2Trunk(tensors=tensors), EfficientNetLite2Deep(tensors=tensors)
    return below.state_dict(), above.state_dict()


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
    "efficientnet_lite2": Backbone(
        "faster_rcnn_efficientnet_lite2_fpn",
        EfficientNetLite2Trunk,
        EfficientNetLite2Detector,
        lambda _: 1.0,
        _split_efficientnet_lite2,
        3,
        folded=True,
    ),
}
