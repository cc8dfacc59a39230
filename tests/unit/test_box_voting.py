"""A kept box moves to the mean of its candidates, and without votes nothing changes."""

import pytest
import torch

from models.detector import MobileNetV2Detector

SHAPE = (100, 100)
PROPOSALS = torch.tensor([[10.0, 10.0, 30.0, 30.0], [12.0, 10.0, 32.0, 30.0], [60.0, 60.0, 80.0, 80.0]])
LOGITS = torch.tensor([[0.0, 2.0], [0.0, 1.0], [0.0, 1.0]])


def chosen(voting_iou: float) -> tuple[torch.Tensor, torch.Tensor]:
    heads = MobileNetV2Detector(0.25, pyramid_channels=16, representation=16, voting_iou=voting_iou).roi_heads
    unmoved = torch.zeros(len(PROPOSALS), 8)  # four deltas for background, four for a fracture
    (boxes,), (scores,), _ = heads.postprocess_detections(LOGITS, unmoved, [PROPOSALS], [SHAPE])
    return boxes, scores


def test_without_voting_the_best_candidate_stays_where_it_is() -> None:
    boxes, _ = chosen(0.0)

    assert torch.allclose(boxes, PROPOSALS[[0, 2]])


def test_with_voting_a_box_is_the_mean_of_its_candidates_weighted_by_score() -> None:
    boxes, scores = chosen(0.5)

    first, second = torch.softmax(LOGITS, -1)[:2, 1].tolist()
    shift = 2.0 * second / (first + second)
    assert boxes[0].tolist() == pytest.approx([10 + shift, 10, 30 + shift, 30], abs=1e-4)
    assert boxes[1].tolist() == pytest.approx(PROPOSALS[2].tolist())
    assert torch.equal(scores, chosen(0.0)[1])


def test_an_image_without_boxes_stays_without() -> None:
    heads = MobileNetV2Detector(0.25, pyramid_channels=16, representation=16, voting_iou=0.5).roi_heads

    (boxes,), _, _ = heads.postprocess_detections(
        LOGITS - 20 * torch.eye(2)[1], torch.zeros(3, 8), [PROPOSALS], [SHAPE]
    )

    assert boxes.shape == (0, 4)
