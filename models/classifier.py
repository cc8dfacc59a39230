"""Is there a fracture anywhere in the image? VGG16 with a head that also says where it looked.

The head pools the last map (average and maximum) as usual, and beside it draws a *location map*: one logit a cell,
taught by the boxes. The image's logit is a linear function of the pooled features and of the location map's peaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.vgg import VGG16Block5, map_channels


@dataclass(frozen=True, slots=True)
class ClassifierOutput:
    """`logits` has shape (n,), uncalibrated; `location_logits` (n, rows / 16, columns / 16)."""

    logits: Tensor
    location_logits: Tensor


class LocationMapClassifier(nn.Module):
    """VGG16 block 5 and the light head, on top of the trunk's map."""

    def __init__(self, width: float = 1.0, hidden: int = 128) -> None:
        super().__init__()
        channels = map_channels(width)
        self.block5 = VGG16Block5(width)
        self.head = LocationMapHead(channels, hidden)

    def convert(self, dtype: torch.dtype) -> None:
        """Turn the convolutions to the type that the trunk runs in; the head stays float32."""
        self.block5.to(dtype)

    def forward(self, trunk_maps: Tensor) -> ClassifierOutput:
        """Take the trunk's map (n, channels, rows / 8, columns / 8)."""
        output: ClassifierOutput = self.head(self.block5(trunk_maps))
        return output


class LocationMapHead(nn.Module):
    """Location map and image logit from block 5's map; computes in float32."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.dropout = nn.Dropout(0.3)
        self.location = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, 1, 1))
        self.pooled = nn.Linear(2 * channels, 1)
        self.peaks = nn.Linear(2, 1, bias=False)
        # Start from "no fracture anywhere" and from the map's peaks as the image's whole word.
        nn.init.constant_(self.location[2].bias, -4.0)  # type: ignore[arg-type]
        nn.init.constant_(self.peaks.weight, 0.5)
        nn.init.zeros_(self.pooled.weight)

    def forward(self, maps: Tensor) -> ClassifierOutput:
        """Take block 5's map (n, channels, rows, columns)."""
        maps = self.norm(maps.float())
        location = self.location(self.dropout(maps))[:, 0]
        cells = location.flatten(1)
        # The peak alone has a thin gradient; the smooth maximum lets every suspicious cell learn.
        peaks = torch.stack([cells.amax(1), torch.logsumexp(cells, 1)], dim=1)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)
        logits = self.pooled(self.dropout(pooled)) + self.peaks(peaks)
        return ClassifierOutput(logits[:, 0], location)


CLASSIFIERS: dict[str, Callable[..., LocationMapClassifier]] = {"vgg16_location_map": LocationMapClassifier}
