"""The VGG16 trunk that classifier and detector stand on, cut after its fourth block.

Blocks 1 to 4 (up to conv4_3, stride 8) are the trunk proper; block 5 (stride 16) belongs to each network, so that one
run of the trunk can serve both while each tunes its own block 5.

References
----------
K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from models.trunk import Trunk

# torchvision's vgg16().features: 22 is conv4_3's ReLU, 23 the pooling before block 5, 29 conv5_3's ReLU.
BLOCK5_START = 23
BLOCK5_STOP = 30
MAP_CHANNELS = 512


def map_channels(width: float) -> int:
    """Count the channels of the maps that trunk and block 5 give at this width (1.0 = VGG16 as published)."""
    return int(MAP_CHANNELS * width)


class VGG16Trunk(Trunk):
    """VGG16 up to conv4_3: (n, 3, rows, columns) to (n, 512 * width, rows / 8, columns / 8)."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.features = _features(width)[:BLOCK5_START]

    def forward(self, images: Tensor) -> Tensor:
        """Return the map after conv4_3 and its ReLU."""
        maps: Tensor = self.features(images)
        return maps


class VGG16Block5(nn.Module):
    """VGG16's fifth block: (n, 512 * width, r, c) to (n, 512 * width, r / 2, c / 2)."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.features = _features(width)[BLOCK5_START:BLOCK5_STOP]

    def forward(self, maps: Tensor) -> Tensor:
        """Return the map after conv5_3 and its ReLU."""
        deeper: Tensor = self.features(maps)
        return deeper


def _features(width: float) -> nn.Sequential:
    layers = [layer if isinstance(layer, str) else int(layer * width) for layer in cfgs["D"]]
    features: nn.Sequential = make_layers(layers)
    return features
