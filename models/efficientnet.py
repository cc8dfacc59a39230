"""The EfficientNet-Lite2 trunk of timm that a light detector stands on, cut at stride 8.

Layers up to stride 8 are the trunk; strides 16 and 32 belong to the network, as VGG16's fifth block does. Batch norms
keep the statistics of ImageNet and are folded into the convolutions from the beginning, in training too: the same
sums, a fifth of the time saved. Nothing is downloaded: weights come from a file.

References
----------
M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; the Lite
variants leave out what integer processors cannot do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import timm
from torch import Tensor, nn

from models.folding import fold_batch_norms
from models.preprocess import Normalisation
from models.trunk import Trunk

# timm's stages of tf_efficientnet_lite2: 2 ends stride 8, 4 stride 16, 6 stride 32.
STRIDE8_STOP = 3
STRIDE16_STOP = 5
STRIDE32_STOP = 7
LEVEL_CHANNELS = [48, 120, 352]
MINUS_ONE_TO_ONE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class EfficientNetLite2Trunk(Trunk):
    """EfficientNet-Lite2 up to stride 8: (n, 3, rows, columns) in -1..1 to (n, 48, rows / 8, columns / 8)."""

    normalisation: ClassVar[Normalisation] = MINUS_ONE_TO_ONE

    def __init__(self, width: float = 1.0, tensors: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        network = _network(width, tensors)
        stem = nn.Sequential(network.get_submodule("conv_stem"), network.get_submodule("bn1"))
        self.features = nn.Sequential(stem, *_stages(network)[:STRIDE8_STOP])

    def forward(self, images: Tensor) -> Tensor:
        """Return the map at stride 8."""
        maps: Tensor = self.features(images)
        return maps


class EfficientNetLite2Deep(nn.Module):
    """EfficientNet-Lite2 from stride 8 on: the maps at strides 16 and 32."""

    def __init__(self, width: float = 1.0, tensors: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        stages = _stages(_network(width, tensors))
        self.stride16 = stages[STRIDE8_STOP:STRIDE16_STOP]
        self.stride32 = stages[STRIDE16_STOP:STRIDE32_STOP]

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at strides 16 and 32."""
        middle: Tensor = self.stride16(maps)
        return middle, self.stride32(middle)


def _network(width: float, tensors: Mapping[str, Tensor] | None) -> nn.Module:
    """Build timm's network, with its own (unfolded) tensors where they are given, and fold the batch norms."""
    if width != 1.0:
        raise ValueError("EfficientNet-Lite2 has one width, 1.0")
    network: nn.Module = timm.create_model("tf_efficientnet_lite2", features_only=True, pretrained=False)
    if tensors is not None:
        # A count that frozen statistics do not keep need not be there; every other name must.
        names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
        network.load_state_dict({name: tensors[name] for name in names}, strict=False)
    fold_batch_norms(network)
    return network


def _stages(network: nn.Module) -> nn.Sequential:
    return cast("nn.Sequential", network.get_submodule("blocks"))
