"""What is in each proposed region, and where exactly: torchvision's box heads, which may look twice and vote.

References
----------
S. Gidaris, N. Komodakis, "Object Detection via a Multi-Region and Semantic Segmentation-Aware CNN Model", ICCV 2015
(sections 4.1 and 4.2, iterative localization and box voting).
"""

from __future__ import annotations

from collections.abc import Sequence
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
MOST_READINGS = 4
Shapes = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Reading:
    """How regions become boxes; neither has weights, so that a trained network can be read in another way.

    `voting_iou`: candidates that overlap a kept box so far move it to their mean; 0 leaves it where it is. `readings`:
    how often the heads look, each time where they have put the candidates the time before; all of them are candidates.

    Raises
    ------
    ValueError
        A number is out of its range.
    """

    voting_iou: float = 0.0
    readings: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.voting_iou <= 1:
            raise ValueError("voting_iou lies between 0 and 1")
        if self.readings not in range(1, MOST_READINGS + 1):
            raise ValueError(f"readings is a whole number from 1 to {MOST_READINGS}")


class _BoxHead(TwoMLPHead):  # type: ignore[misc]  # torchvision ships no types
    """Two fully connected layers in the type of their weights, float32 out."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x.to(self.fc6.weight.dtype))
        return out.float()


@dataclass(frozen=True, slots=True)
class _Candidates:
    """One reading: of each image's n regions logits (n, 2), deltas (n, 8) and the regions themselves (n, 4)."""

    logits: Sequence[Tensor]
    deltas: Sequence[Tensor]
    regions: Sequence[Tensor]


class _BoxHeads(RoIHeads):  # type: ignore[misc]  # torchvision ships no types
    """torchvision's; how regions become boxes is told by `reading`.

    Readers draw a fracture's box now tighter, now looser; a mean of many candidates lies better than any of them, and
    what was half outside of its region is seen whole the second time.
    """

    reading = Reading()

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: Shapes,
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Find boxes, or learn from one reading; see torchvision's."""
        if self.training or self.reading.readings == 1:
            found: tuple[list[dict[str, Tensor]], dict[str, Tensor]] = super().forward(
                features, proposals, image_shapes, targets
            )
            return found
        seen = []
        for _ in range(self.reading.readings):
            seen.append(self._read(features, proposals, image_shapes))
            proposals = self._placed(seen[-1], image_shapes)
        logits = _by_image([each.logits for each in seen])
        deltas = _by_image([each.deltas for each in seen])
        regions = _by_image([each.regions for each in seen])
        chosen = self.postprocess_detections(torch.cat(logits), torch.cat(deltas), regions, image_shapes)
        return [dict(zip(("boxes", "scores", "labels"), each, strict=True)) for each in zip(*chosen, strict=True)], {}

    def _read(self, features: dict[str, Tensor], regions: list[Tensor], image_shapes: Shapes) -> _Candidates:
        counts = [len(each) for each in regions]
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, regions, image_shapes)))
        return _Candidates(torch.split(logits, counts), torch.split(deltas, counts), regions)

    def _placed(self, seen: _Candidates, image_shapes: Shapes) -> list[Tensor]:
        """Return the candidates (n, 4) of each image, clipped to it."""
        counts = [len(each) for each in seen.regions]
        decoded = self.box_coder.decode(torch.cat(list(seen.deltas)), list(seen.regions))[:, 1].split(counts)
        return [clip_boxes_to_image(each, shape) for each, shape in zip(decoded, image_shapes, strict=True)]

    def postprocess_detections(
        self, class_logits: Tensor, box_regression: Tensor, proposals: list[Tensor], image_shapes: Shapes
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Choose the boxes of each image; see torchvision's."""
        boxes, scores, labels = super().postprocess_detections(class_logits, box_regression, proposals, image_shapes)
        if self.reading.voting_iou > 0:
            counts = [len(each) for each in proposals]
            seen = _Candidates(torch.split(class_logits, counts), torch.split(box_regression, counts), proposals)
            boxes = [
                _voted(kept, candidates, torch.softmax(logits, -1)[:, 1], self.reading.voting_iou)
                for kept, candidates, logits in zip(boxes, self._placed(seen, image_shapes), seen.logits, strict=True)
            ]
        return boxes, scores, labels


def _by_image(readings: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Join what several readings have of each image."""
    return [torch.cat(of_image) for of_image in zip(*readings, strict=True)]


def _voted(kept: Tensor, candidates: Tensor, weights: Tensor, voting_iou: float) -> Tensor:
    """Return the mean (k, 4) of the candidates (n, 4) that overlap each box (k, 4) so far, weighted by score."""
    votes: Tensor = (box_iou(kept, candidates) >= voting_iou) * weights
    # Each box is one of the candidates, so that every row has a vote.
    return votes @ candidates / votes.sum(1, keepdim=True)


def box_heads(channels: int, representation: int, reading: Reading) -> RoIHeads:
    """Build the heads on a pyramid of so many channels, with so wide a hidden layer."""
    heads = _BoxHeads(
        MultiScaleRoIAlign(["fine", "middle"], ROI_CELLS, 2, canonical_scale=ROI_CANONICAL_SIDE, canonical_level=4),
        _BoxHead(channels * ROI_CELLS**2, representation),
        FastRCNNPredictor(representation, CLASSES),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=48,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        # Every candidate leaves the network; which are shown is the bundle's and the caller's choice.
        score_thresh=0.01,
        nms_thresh=0.3,
        detections_per_img=30,
    )
    heads.reading = reading
    return heads
