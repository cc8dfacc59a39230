"""Is there a fracture anywhere in the image? VGG16 with one of three light heads.

The *pooled* head is a small perceptron on the average of block 5's map and on its strongest cells. The *location map*
head draws beside a linear one one logit a cell, taught by the boxes, and so also says where it looked. The *pooled map*
head adds such a map to the perceptron: training starts from a fitted pooled head and lets the boxes teach on.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, relu

from models.unlikeness import STRONGEST, Unlikeness
from models.vgg import VGG16Block5, map_channels

# A location map begins with a logit of "no fracture in any cell"; each of its two peaks with so much weight.
NOWHERE = -4.0
FIRST_SAY = 0.25


@dataclass(frozen=True, slots=True)
class ClassifierOutput:
    """`logits` has shape (n,), uncalibrated; `location_logits` (n, rows / 16, columns / 16) or None.

    `unlikeness` has shape (n,), above 1 for images unlike those of the training (`models.unlikeness`), or is None.
    """

    logits: Tensor
    location_logits: Tensor | None = None
    unlikeness: Tensor | None = None


Head = TypeVar("Head", bound=nn.Module)


class Classifier(nn.Module, Generic[Head]):
    """Block 5 and a head on top of the trunk's map, and perhaps a measure of unlikeness; both compute in float32."""

    def __init__(self, block5: VGG16Block5, head: Head, unlikeness: Unlikeness | None = None) -> None:
        super().__init__()
        self.block5 = block5
        self.head: Head = head
        self.unlikeness = unlikeness

    def convert(self, dtype: torch.dtype) -> None:
        """Turn the convolutions to the type that the trunk runs in; the head stays float32."""
        self.block5.to(dtype)

    def forward(self, trunk_maps: Tensor) -> ClassifierOutput:
        """Take the trunk's map (n, channels, rows / 8, columns / 8)."""
        maps = self.block5(trunk_maps).float()
        output: ClassifierOutput = self.head(maps)
        if self.unlikeness is None:
            return output
        return replace(output, unlikeness=self.unlikeness(pool(maps, STRONGEST)))


def measure_of(width: float, seen: int = 0, components: int = 0) -> Unlikeness | None:
    """Make the measure of unlikeness of so many training images that were seen and components; None without images."""
    return Unlikeness(2 * map_channels(width), components, seen) if seen else None


class PooledClassifier(Classifier["PooledHead"]):
    """VGG16 with the pooled head."""

    def __init__(self, width: float = 1.0, hidden: int = 256, strongest: int = 1, **unlikeness: int) -> None:
        block5 = VGG16Block5(width)
        head = PooledHead(2 * map_channels(width), hidden, strongest)
        super().__init__(block5, head, measure_of(width, **unlikeness))


class LocationMapClassifier(Classifier["LocationMapHead"]):
    """VGG16 with the location map head."""

    def __init__(self, width: float = 1.0, hidden: int = 128, **unlikeness: int) -> None:
        block5 = VGG16Block5(width)
        super().__init__(block5, LocationMapHead(map_channels(width), hidden), measure_of(width, **unlikeness))


class PooledMapClassifier(Classifier["PooledMapHead"]):
    """VGG16 with the pooled map head."""

    def __init__(
        self, width: float = 1.0, hidden: int = 1024, map_hidden: int = 128, strongest: int = 1, **unlikeness: int
    ) -> None:
        block5 = VGG16Block5(width)
        head = PooledMapHead(map_channels(width), hidden, map_hidden, strongest)
        super().__init__(block5, head, measure_of(width, **unlikeness))


def pool(maps: Tensor, strongest: int = 1) -> Tensor:
    """Pool a map (n, channels, rows, columns) to (n, 2 * channels).

    First the averages of all cells, then those of each channel's `strongest` cells, as far as there are so many; one
    is the maximum.
    """
    cells = maps.flatten(2)
    peaks = cells.amax(2) if strongest == 1 else cells.topk(min(strongest, cells.shape[2]), dim=2).values.mean(2)
    return torch.cat([cells.mean(2), peaks], dim=1)


class PooledHead(nn.Module):
    """A perceptron on standardised pooled features; mean and spread are those of the training images.

    Raises ValueError where it is to pool less than one cell, TypeError where that is no whole number.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, features: int, hidden: int, strongest: int = 1) -> None:
        super().__init__()
        self.strongest = operator.index(strongest)
        if self.strongest < 1:
            raise ValueError(f"at least one cell is pooled, not {strongest}")
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.inner = nn.Linear(features, hidden)
        self.outer = nn.Linear(hidden, 1)

    def forward(self, maps: Tensor) -> ClassifierOutput:
        """Take block 5's map (n, channels, rows, columns)."""
        return ClassifierOutput(self.judge(self.pool(maps)))

    def pool(self, maps: Tensor) -> Tensor:
        """Pool block 5's map to the features (n, features) that it judges by."""
        return pool(maps, self.strongest)

    def judge(self, pooled: Tensor) -> Tensor:
        """Return the logits (n,) of pooled features (n, features)."""
        # A feature far outside of what was seen in training says "odd", not "ten times as fractured".
        standard = ((pooled - self.mean) / self.spread).clamp(-4.0, 6.0)
        hidden = relu(self.inner(dropout(standard, 0.3, self.training)))
        logits: Tensor = self.outer(dropout(hidden, 0.5, self.training))[:, 0]
        return logits


class LocationMapHead(nn.Module):
    """Location map and image logit from block 5's map."""

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
        # Channels last, the backward pass of this norm crashes torch 2.11 on a processor.
        maps = self.norm(maps.contiguous())
        location = self.location(self.dropout(maps))[:, 0]
        cells = location.flatten(1)
        # The peak alone has a thin gradient; the smooth maximum lets every suspicious cell learn.
        peaks = torch.stack([cells.amax(1), torch.logsumexp(cells, 1)], dim=1)
        logits = self.pooled(self.dropout(pool(maps))) + self.peaks(peaks)
        return ClassifierOutput(logits[:, 0], location)


class PooledMapHead(nn.Module):
    """The pooled head's logit plus that of a location map.

    The map is normalised cell by cell and its peaks do not grow with the number of cells: a chip, a whole image and its
    black border are judged alike.
    """

    def __init__(self, channels: int, hidden: int, map_hidden: int, strongest: int = 1) -> None:
        super().__init__()
        self.pooled = PooledHead(2 * channels, hidden, strongest)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout2d(0.1)
        self.location = nn.Sequential(nn.Conv2d(channels, map_hidden, 1), nn.ReLU(), nn.Conv2d(map_hidden, 1, 1))
        self.peaks = nn.Linear(2, 1)
        nn.init.constant_(self.location[2].bias, NOWHERE)  # type: ignore[arg-type]
        nn.init.constant_(self.peaks.weight, FIRST_SAY)
        # A map that says "nowhere" in every cell leaves the pooled head's logit as it is.
        nn.init.constant_(self.peaks.bias, -2 * FIRST_SAY * NOWHERE)

    def forward(self, maps: Tensor) -> ClassifierOutput:
        """Take block 5's map (n, channels, rows, columns)."""
        standard = self.norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        location = self.location(self.dropout(standard))[:, 0]
        cells = location.flatten(1)
        smooth = torch.logsumexp(cells, 1) - math.log(cells.shape[1])
        peaks = self.peaks(torch.stack([cells.amax(1), smooth], dim=1))[:, 0]
        return ClassifierOutput(self.pooled(maps).logits + peaks, location)


CLASSIFIERS: dict[str, Callable[..., Classifier[Any]]] = {
    "vgg16_pooled": PooledClassifier,
    "vgg16_location_map": LocationMapClassifier,
    "vgg16_pooled_map": PooledMapClassifier,
}
