"""What is in each proposed region, and where exactly: torchvision's box heads, one stage after another.

The first stage learns to tell a region that overlaps a fracture by half from one that does not. Each later one begins
where the one before has put the regions, and asks for more overlap: what it learns to like lies better.

References
----------
Z. Cai, N. Vasconcelos, "Cascade R-CNN: Delving Into High Quality Object Detection", CVPR 2018.
S. Gidaris, N. Komodakis, "Object Detection via a Multi-Region and Semantic Segmentation-Aware CNN Model", ICCV 2015
(section 4.2, box voting).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign, box_iou, clip_boxes_to_image

# Boxes of this side and more are read from the coarser level.
ROI_CANONICAL_SIDE = 112
ROI_CELLS = 7
CLASSES = 2  # background, fracture
# What a later stage learns from beside the regions that it is given: true boxes, moved by so much of their sides.
NEAR_BOXES = 4
NEAR = 0.08
Shapes = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Stage:
    """How a stage learns: overlap of what it calls a fracture, scale of its deltas, samples an image."""

    iou: float
    delta_weights: tuple[float, float, float, float]
    samples: int
    positives: float  # the most of the samples that are fractures


STAGES = (
    Stage(0.5, (10.0, 10.0, 5.0, 5.0), 48, 0.25),
    # What is left to move is small, so that its deltas are scaled up; and there are more good regions by then.
    Stage(0.6, (20.0, 20.0, 10.0, 10.0), 64, 0.375),
    Stage(0.7, (30.0, 30.0, 15.0, 15.0), 64, 0.375),
)


@dataclass(frozen=True, slots=True)
class BoxHeadOptions:
    """What a bundle chooses: width of the hidden layer, overlap from which candidates vote (0: none do), stages.

    Raises
    ------
    ValueError
        A number is out of its range.
    """

    representation: int = 512
    voting_iou: float = 0.0
    stages: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.voting_iou <= 1:
            raise ValueError("voting_iou lies between 0 and 1")
        if self.stages not in range(1, len(STAGES) + 1):
            raise ValueError(f"a detector has from 1 to {len(STAGES)} stages")


class _BoxHead(TwoMLPHead):  # type: ignore[misc]  # torchvision ships no types
    """Two fully connected layers in the type of their weights, float32 out."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x.to(self.fc6.weight.dtype))
        return out.float()


class BoxHeads(RoIHeads):  # type: ignore[misc]  # torchvision ships no types
    """One stage: torchvision's, where a box that is kept may move to the mean of the candidates that it stands for.

    Readers draw a fracture's box now tighter, now looser; a mean of many candidates lies better than any of them. With
    `voting_iou` 0 the best candidate stays where it is.
    """

    voting_iou = 0.0

    @torch.no_grad()
    def move(self, features: dict[str, Tensor], regions: list[Tensor], image_shapes: Shapes) -> list[Tensor]:
        """Return each image's regions (n, 4) where this stage puts them, clipped to the image."""
        _, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, regions, image_shapes)))
        return self._moved(deltas, regions, image_shapes)

    def _moved(self, deltas: Tensor, regions: list[Tensor], image_shapes: Shapes) -> list[Tensor]:
        decoded = self.box_coder.decode(deltas, regions)[:, 1].split([len(each) for each in regions])
        return [clip_boxes_to_image(each, shape) for each, shape in zip(decoded, image_shapes, strict=True)]

    def postprocess_detections(
        self, class_logits: Tensor, box_regression: Tensor, proposals: list[Tensor], image_shapes: Shapes
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Choose the boxes of each image; see torchvision's."""
        boxes, scores, labels = super().postprocess_detections(class_logits, box_regression, proposals, image_shapes)
        if self.voting_iou > 0:
            candidates = self._moved(box_regression, proposals, image_shapes)
            weights = torch.split(torch.softmax(class_logits, -1)[:, 1], [len(each) for each in proposals])
            boxes = [_voted(*each, self.voting_iou) for each in zip(boxes, candidates, weights, strict=True)]
        return boxes, scores, labels

    @torch.no_grad()
    def begin_as(self, earlier: BoxHeads) -> None:
        """Take an earlier stage's weights, the deltas' scaled to what they mean here."""
        self.load_state_dict(earlier.state_dict())
        ratio = torch.tensor(self.box_coder.weights) / torch.tensor(earlier.box_coder.weights)
        layer = self.box_predictor.bbox_pred
        scale = ratio.repeat(CLASSES)
        layer.weight.mul_(scale[:, None])
        layer.bias.mul_(scale)


def _voted(kept: Tensor, candidates: Tensor, weights: Tensor, voting_iou: float) -> Tensor:
    """Return the mean (k, 4) of the candidates (n, 4) that overlap each box (k, 4) so far, weighted by score."""
    votes: Tensor = (box_iou(kept, candidates) >= voting_iou) * weights
    # Each box is one of the candidates, so that every row has a vote.
    return votes @ candidates / votes.sum(1, keepdim=True)


def near(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return boxes (n, 4) near each true one (k, 4), drawn by chance and clipped to (rows, columns)."""
    repeated = boxes.repeat(NEAR_BOXES, 1)
    sides = (repeated[:, 2:] - repeated[:, :2]).repeat(1, 2)
    moved: Tensor = clip_boxes_to_image(repeated + NEAR * sides * torch.randn_like(repeated), shape)
    return moved


def box_heads(channels: int, options: BoxHeadOptions) -> list[BoxHeads]:
    """Build the stages on a pyramid of so many channels."""
    return [_stage(channels, options, stage) for stage in STAGES[: options.stages]]


def _stage(channels: int, options: BoxHeadOptions, stage: Stage) -> BoxHeads:
    heads = BoxHeads(
        MultiScaleRoIAlign(["fine", "middle"], ROI_CELLS, 2, canonical_scale=ROI_CANONICAL_SIDE, canonical_level=4),
        _BoxHead(channels * ROI_CELLS**2, options.representation),
        FastRCNNPredictor(options.representation, CLASSES),
        fg_iou_thresh=stage.iou,
        bg_iou_thresh=stage.iou,
        batch_size_per_image=stage.samples,
        positive_fraction=stage.positives,
        bbox_reg_weights=stage.delta_weights,
        # Every candidate leaves the network; which are shown is the bundle's and the caller's choice.
        score_thresh=0.01,
        nms_thresh=0.3,
        detections_per_img=30,
    )
    heads.voting_iou = options.voting_iou
    return heads
