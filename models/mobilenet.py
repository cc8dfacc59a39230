"""The MobileNetV2 trunk that a light detector stands on, cut at stride 8.

Layers up to stride 8 are the trunk; strides 16 and 32 belong to the network, as VGG16's fifth block does. Batch norms
keep the statistics of ImageNet: chips of radiographs come in batches too small and too alike to replace them.

References
----------
M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.ops import FrozenBatchNorm2d

from models.trunk import Trunk

# torchvision's mobilenet_v2().features: 6 ends stride 8, 13 stride 16, 17 stride 32; 18 serves ImageNet's classes.
STRIDE8_STOP = 7
STRIDE16_STOP = 14
STRIDE32_STOP = 18


class MobileNetV2Trunk(Trunk):
    """MobileNetV2 up to stride 8: (n, 3, rows, columns) to (n, 32 * width, rows / 8, columns / 8)."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.features = _features(width)[:STRIDE8_STOP]

    def forward(self, images: Tensor) -> Tensor:
        """Return the map at stride 8."""
        maps: Tensor = self.features(images)
        return maps


class MobileNetV2Deep(nn.Module):
    """MobileNetV2 from stride 8 on: the maps at strides 16 and 32."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        layers = _features(width)
        self.stride16 = layers[STRIDE8_STOP:STRIDE16_STOP]
        self.stride32 = layers[STRIDE16_STOP:STRIDE32_STOP]

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at strides 16 and 32."""
        middle: Tensor = self.stride16(maps)
        return middle, self.stride32(middle)


def level_channels(width: float) -> list[int]:
    """Count the channels at strides 8, 16 and 32."""
    layers = _features(width)
    last = [layers[stop - 1] for stop in (STRIDE8_STOP, STRIDE16_STOP, STRIDE32_STOP)]
    return [int(layer.out_channels) for layer in last]  # type: ignore[arg-type]  # an int in every inverted residual


def _features(width: float) -> nn.Sequential:
    features: nn.Sequential = mobilenet_v2(width_mult=width, norm_layer=FrozenBatchNorm2d).features
    return features
