"""Where are the fractures? torchvision's Faster R-CNN on a VGG16 feature pyramid.

A forward pass reads as its story: trunk's map, block 5, pyramid (strides 8, 16, 32), proposals, box heads.

References
----------
S. Ren et al., "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NeurIPS 2015.
T.-Y. Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from models.vgg import VGG16Block5, map_channels

# Sides of the anchors in canvas pixels, by pyramid level. Measured on the training boxes at a longest side of 576: the
# median box is 32 x 35 pixels, nine in ten lie between 14 and 110.
ANCHOR_SIDES = ((16, 24), (36, 54), (80, 128))
ANCHOR_RATIOS = ((0.5, 1.0, 2.0),) * len(ANCHOR_SIDES)
# Boxes of this side and more are read from the coarser level.
ROI_CANONICAL_SIDE = 112
ROI_CELLS = 7
CLASSES = 2  # background, fracture


class FasterRCNNDetector(nn.Module):
    """VGG16 block 5, feature pyramid, region proposals and box heads, on top of the trunk's map."""

    def __init__(self, width: float = 1.0, pyramid_channels: int = 128, representation: int = 512) -> None:
        super().__init__()
        channels = map_channels(width)
        self.block5 = VGG16Block5(width)
        self.pyramid = FeaturePyramidNetwork([channels, channels], pyramid_channels, LastLevelMaxPool(), _group_norm)
        self.rpn = _proposals(pyramid_channels)
        self.roi_heads = _box_heads(pyramid_channels, representation)

    def convert(self, dtype: torch.dtype) -> None:
        """Turn what is costly to the type that the trunk runs in; scores and corners stay float32."""
        for part in (self.block5, self.pyramid, self.rpn.head, self.roi_heads.box_head):
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
            In training, one dictionary an image: `boxes` (k, 4) xyxy in canvas pixels, `labels` (k,) of ones.

        Returns
        -------
        tuple
            Detections (`boxes`, `scores`, `labels`; empty in training) and losses (empty otherwise).
        """
        levels: OrderedDict[str, Tensor] = self.pyramid(OrderedDict(fine=trunk_maps, coarse=self.block5(trunk_maps)))
        # Corners of boxes need more digits than bfloat16 has.
        maps = {name: level.float() for name, level in levels.items()}
        rows, columns = (8 * side for side in trunk_maps.shape[-2:])
        # The proposals ask only for the canvas's shape, never for its pixels.
        images = ImageList(maps["fine"].new_empty(1).expand(len(image_sizes), 1, rows, columns), image_sizes)
        proposals, proposal_losses = self.rpn(images, maps, targets)
        detections, box_losses = self.roi_heads(maps, proposals, image_sizes, targets)
        return detections, {**proposal_losses, **box_losses}


class _Float32RPNHead(RPNHead):  # type: ignore[misc]  # torchvision ships no types
    """The convolutions may run in bfloat16; what leaves them becomes coordinates."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        dtype = self.cls_logits.weight.dtype
        logits, deltas = super().forward([level.to(dtype) for level in x])
        return [level.float() for level in logits], [level.float() for level in deltas]


class _BoxHead(TwoMLPHead):  # type: ignore[misc]  # torchvision ships no types
    """Two fully connected layers in the type of their weights, float32 out."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x.to(self.fc6.weight.dtype))
        return out.float()


def _group_norm(channels: int) -> nn.GroupNorm:
    """VGG's maps reach values of thousands; without a norm the pyramid's first steps are wild."""
    return nn.GroupNorm(min(16, channels), channels)


def _proposals(channels: int) -> RegionProposalNetwork:
    anchors = AnchorGenerator(ANCHOR_SIDES, ANCHOR_RATIOS)
    return RegionProposalNetwork(
        anchors,
        _Float32RPNHead(channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.6,
        bg_iou_thresh=0.3,
        batch_size_per_image=128,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 1000, "testing": 600},
        post_nms_top_n={"training": 400, "testing": 200},
        nms_thresh=0.7,
    )


def _box_heads(channels: int, representation: int) -> RoIHeads:
    return RoIHeads(
        MultiScaleRoIAlign(["fine", "coarse"], ROI_CELLS, 2, canonical_scale=ROI_CANONICAL_SIDE, canonical_level=4),
        _BoxHead(channels * ROI_CELLS**2, representation),
        FastRCNNPredictor(representation, CLASSES),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=96,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        # Every candidate leaves the network; which are shown is the bundle's and the caller's choice.
        score_thresh=0.01,
        nms_thresh=0.3,
        detections_per_img=30,
    )


def detections_of(output: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return boxes (k, 4) and scores (k,) of one image, best first."""
    order = torch.argsort(output["scores"], descending=True, stable=True)
    return output["boxes"][order], output["scores"][order]


DETECTORS: dict[str, Callable[..., FasterRCNNDetector]] = {"faster_rcnn_vgg16_fpn": FasterRCNNDetector}
