"""Where are the fractures? torchvision's Faster R-CNN on a feature pyramid of VGG16, MobileNetV2 or EfficientNet-Lite2.

A forward pass reads as its story: trunk's map, deeper layers, pyramid (strides 8, 16, 32), proposals, stages of box
heads.

References
----------
S. Ren et al., "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS 2015.
T.-Y. Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from models.box_heads import BoxHeadOptions, BoxHeads, box_heads, near
from models.efficientnet import LEVEL_CHANNELS, EfficientNetLite2Deep
from models.mobilenet import MobileNetV2Deep, level_channels
from models.vgg import VGG16Block5, map_channels

# Sides of the anchors in canvas pixels, by pyramid level.
AnchorSides = tuple[tuple[int, ...], ...]
# Measured on the training boxes at a longest side of 576: the median box is 32 x 35 pixels, nine in ten lie between 14
# and 110.
VGG16_ANCHORS: AnchorSides = ((16, 24), (36, 54), (80, 128))
# The same boxes at a longest side of 704, the input of the MobileNetV2 detector.
MOBILENET_V2_ANCHORS: AnchorSides = ((20, 30), (44, 66), (98, 156))
# From 16 to 256 pixels by steps of a half octave: trained at longest sides from 480 to 960, nine boxes in ten lie
# between 12 and 185.
EFFICIENTNET_LITE2_ANCHORS: AnchorSides = ((16, 22, 31), (44, 63, 90), (128, 180, 256))
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
LEVELS = ("fine", "middle", "coarse")


class FasterRCNNDetector(nn.Module):
    """Feature pyramid, region proposals and box heads on top of a trunk's map; a subclass brings the deeper layers."""

    def __init__(self, channels: list[int], anchors: AnchorSides, pyramid_channels: int, heads: BoxHeadOptions) -> None:
        super().__init__()
        extra = LastLevelMaxPool() if len(channels) < len(anchors) else None
        self.pyramid = FeaturePyramidNetwork(channels, pyramid_channels, extra, _group_norm)
        self.rpn = _proposals(pyramid_channels, anchors)
        first, *later = box_heads(pyramid_channels, heads)
        self.roi_heads = first
        self.later_stages = nn.ModuleList(later)

    @property
    def stages(self) -> list[BoxHeads]:
        """Return the box heads, first stage first."""
        return [self.roi_heads, *self.later_stages]

    def begin_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of a network with as many stages or fewer; a stage that it lacks begins as the one before.

        Raises
        ------
        RuntimeError
            The weights are of another network.
        """
        known = 1 + len({name.split(".")[1] for name in tensors if name.startswith("later_stages.")})
        missing, unexpected = self.load_state_dict(tensors, strict=False)
        if unexpected or not all(name.startswith("later_stages.") for name in missing):
            raise RuntimeError("the weights are of another network")
        for before, heads in pairwise(self.stages[known - 1 :]):
            heads.begin_as(before)

    @property
    @abstractmethod
    def deeper(self) -> nn.Module:
        """Return the layers between trunk and pyramid."""

    @abstractmethod
    def levels(self, trunk_maps: Tensor) -> list[Tensor]:
        """Return the maps that the pyramid is built on, finest first."""

    def convert(self, dtype: torch.dtype) -> None:
        """Turn what is costly to the type that the trunk runs in; scores and corners stay float32."""
        for part in (self.deeper, self.pyramid, self.rpn.head, *(heads.box_head for heads in self.stages)):
            part.to(dtype)

    def forward(
        self, trunk_maps: Tensor, image_sizes: list[tuple[int, int]], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Find boxes, or learn.

        Parameters
        ----------
        trunk_maps
            (n, channels, canvas rows / 8, canvas columns / 8).
        image_sizes
            (rows, columns) of each image on its canvas; boxes are clipped to it.
        targets
            In training, one dictionary an image: `boxes` (k, 4) xyxy in canvas pixels, `labels` (k,) of ones. Stages
            that are not in training mode stay as they are and only move the regions.

        Returns
        -------
        tuple
            Detections (`boxes`, `scores`, `labels`; empty in training) and losses (empty otherwise).
        """
        named = zip(LEVELS, self.levels(trunk_maps), strict=False)
        levels: OrderedDict[str, Tensor] = self.pyramid(OrderedDict(named))
        # Corners of boxes need more digits than bfloat16 has.
        maps = {name: level.float() for name, level in levels.items()}
        rows, columns = (8 * side for side in trunk_maps.shape[-2:])
        # The proposals ask only for the canvas's shape, never for its pixels.
        images = ImageList(maps["fine"].new_empty(1).expand(len(image_sizes), 1, rows, columns), image_sizes)
        regions, losses = self.rpn(images, maps, targets)
        detections: list[dict[str, Tensor]] = []
        for number, heads in enumerate(self.stages, 1):
            if heads.training and targets is not None:
                losses |= self._learn(number, maps, regions, image_sizes, targets)
            elif number == len(self.stages):
                detections, _ = heads(maps, regions, image_sizes)
            if number < len(self.stages):
                regions = heads.move(maps, regions, image_sizes)
        return detections, losses

    def _learn(
        self,
        number: int,
        maps: dict[str, Tensor],
        regions: list[Tensor],
        image_sizes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Return the losses of a stage; the later ones' names end in its number."""
        if number > 1:
            truth = [near(target["boxes"], size) for target, size in zip(targets, image_sizes, strict=True)]
            regions = [torch.cat(pair) for pair in zip(regions, truth, strict=True)]
        _, losses = self.stages[number - 1](maps, regions, image_sizes, targets)
        return {name if number == 1 else f"{name}_{number}": loss for name, loss in losses.items()}


class VGG16Detector(FasterRCNNDetector):
    """On VGG16: the trunk's map, block 5 and a pooled level; `heads` are `BoxHeadOptions`."""

    def __init__(self, width: float = 1.0, pyramid_channels: int = 128, **heads: Any) -> None:
        super().__init__([map_channels(width)] * 2, VGG16_ANCHORS, pyramid_channels, BoxHeadOptions(**heads))
        self.block5 = VGG16Block5(width)

    @property
    def deeper(self) -> nn.Module:
        """Return the layers between trunk and pyramid."""
        return self.block5

    def levels(self, trunk_maps: Tensor) -> list[Tensor]:
        """Return the maps at strides 8 and 16."""
        return [trunk_maps, self.block5(trunk_maps)]


class MobileNetV2Detector(FasterRCNNDetector):
    """On MobileNetV2: the trunk's map and the maps at strides 16 and 32; `heads` are `BoxHeadOptions`."""

    def __init__(self, width: float = 1.0, pyramid_channels: int = 128, **heads: Any) -> None:
        super().__init__(level_channels(width), MOBILENET_V2_ANCHORS, pyramid_channels, BoxHeadOptions(**heads))
        self.deep = MobileNetV2Deep(width)

    @property
    def deeper(self) -> nn.Module:
        """Return the layers between trunk and pyramid."""
        return self.deep

    def levels(self, trunk_maps: Tensor) -> list[Tensor]:
        """Return the maps at strides 8, 16 and 32."""
        return [trunk_maps, *self.deep(trunk_maps)]


class EfficientNetLite2Detector(FasterRCNNDetector):
    """On EfficientNet-Lite2: the trunk's map and the maps at strides 16 and 32; `heads` are `BoxHeadOptions`."""

    def __init__(self, width: float = 1.0, pyramid_channels: int = 128, **heads: Any) -> None:
        super().__init__(LEVEL_CHANNELS, EFFICIENTNET_LITE2_ANCHORS, pyramid_channels, BoxHeadOptions(**heads))
        self.deep = EfficientNetLite2Deep(width)

    @property
    def deeper(self) -> nn.Module:
        """Return the layers between trunk and pyramid."""
        return self.deep

    def levels(self, trunk_maps: Tensor) -> list[Tensor]:
        """Return the maps at strides 8, 16 and 32."""
        return [trunk_maps, *self.deep(trunk_maps)]


class _Float32RPNHead(RPNHead):  # type: ignore[misc]  # torchvision ships no types
    """The convolutions may run in bfloat16; what leaves them becomes coordinates."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        dtype = self.cls_logits.weight.dtype
        logits, deltas = super().forward([level.to(dtype) for level in x])
        return [level.float() for level in logits], [level.float() for level in deltas]


def _group_norm(channels: int) -> nn.GroupNorm:
    """VGG's maps reach values of thousands; without a norm the pyramid's first steps are wild."""
    return nn.GroupNorm(min(16, channels), channels)


def _proposals(channels: int, sides: AnchorSides) -> RegionProposalNetwork:
    anchors = AnchorGenerator(sides, (ANCHOR_RATIOS,) * len(sides))
    return RegionProposalNetwork(
        anchors,
        _Float32RPNHead(channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.6,
        bg_iou_thresh=0.3,
        batch_size_per_image=128,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 400, "testing": 600},
        post_nms_top_n={"training": 200, "testing": 200},
        nms_thresh=0.7,
    )


def detections_of(output: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return boxes (k, 4) and scores (k,) of one image, best first."""
    order = torch.argsort(output["scores"], descending=True, stable=True)
    return output["boxes"][order], output["scores"][order]


DETECTORS: dict[str, Callable[..., FasterRCNNDetector]] = {
    "faster_rcnn_vgg16_fpn": VGG16Detector,
    "faster_rcnn_mobilenet_v2_fpn": MobileNetV2Detector,
    "faster_rcnn_efficientnet_lite2_fpn": EfficientNetLite2Detector,
}
