"""How regions become boxes: candidates vote on a box's place, and a second reading begins where the first has ended."""

import pytest
import torch

from models.box_heads import Reading
from models.detector import MobileNetV2Detector

SHAPE = (100, 100)
PROPOSALS = torch.tensor([[10.0, 10.0, 30.0, 30.0], [12.0, 10.0, 32.0, 30.0], [60.0, 60.0, 80.0, 80.0]])
LOGITS = torch.tensor([[0.0, 2.0], [0.0, 1.0], [0.0, 1.0]])


def heads(**reading):
    return MobileNetV2Detector(0.25, pyramid_channels=16, representation=16, **reading).roi_heads.eval()


def chosen(voting_iou):
    unmoved = torch.zeros(len(PROPOSALS), 8)  # four deltas for background, four for a fracture
    (boxes,), (scores,), _ = heads(voting_iou=voting_iou).postprocess_detections(LOGITS, unmoved, [PROPOSALS], [SHAPE])
    return boxes, scores


def test_without_voting_the_best_candidate_stays_where_it_is():
    boxes, _ = chosen(0.0)

    assert torch.allclose(boxes, PROPOSALS[[0, 2]])


def test_with_voting_a_box_is_the_mean_of_its_candidates_weighted_by_score():
    boxes, scores = chosen(0.5)

    first, second = torch.softmax(LOGITS, -1)[:2, 1].tolist()
    shift = 2.0 * second / (first + second)
    assert boxes[0].tolist() == pytest.approx([10 + shift, 10, 30 + shift, 30], abs=1e-4)
    assert boxes[1].tolist() == pytest.approx(PROPOSALS[2].tolist())
    assert torch.equal(scores, chosen(0.0)[1])


def test_an_image_without_boxes_stays_without():
    none = LOGITS - 20 * torch.eye(2)[1]
    (boxes,), _, _ = heads(voting_iou=0.5).postprocess_detections(none, torch.zeros(3, 8), [PROPOSALS], [SHAPE])

    assert boxes.shape == (0, 4)


class Corners(torch.nn.Module):
    """Sees of regions where they lie."""

    def forward(self, _features, regions, _shapes):
        return torch.cat(regions)


class Walker(torch.nn.Module):
    """Steps 10 pixels to the right, and likes a region the more, the further right it lies."""

    def forward(self, corners):
        deltas = torch.zeros(len(corners), 8)
        deltas[:, 4] = 10.0 * 10 / (corners[:, 2] - corners[:, 0])  # a delta is a tenth of the region's width
        return torch.stack([torch.zeros(len(corners)), corners[:, 0] / 50], 1), deltas


def walking(readings, **more):
    made = heads(readings=readings, **more)
    made.box_roi_pool, made.box_head, made.box_predictor = Corners(), torch.nn.Identity(), Walker()
    return made


@pytest.mark.parametrize("readings", [1, 2, 3])
def test_a_reading_begins_where_the_one_before_has_put_the_region(readings):
    shapes = [SHAPE, SHAPE, SHAPE]
    regions = [PROPOSALS[:1], torch.zeros(0, 4), PROPOSALS[2:]]
    found, losses = walking(readings)({}, regions, shapes)

    assert losses == {}
    for boxes, region in ((found[0]["boxes"], PROPOSALS[0]), (found[2]["boxes"], PROPOSALS[2])):
        step = torch.tensor([10.0 * readings, 0.0, 10.0 * readings, 0.0])
        # Of all readings' candidates the last is liked best; what overlaps it little stays beside it.
        assert boxes[0].tolist() == pytest.approx((region + step).clamp(max=100).tolist(), abs=1e-3)
    assert found[1]["boxes"].shape == (0, 4)
    assert found[0]["scores"][0] == pytest.approx(torch.sigmoid(torch.tensor((10 + 10 * (readings - 1)) / 50)).item())


def test_every_readings_candidates_vote():
    (found,), _ = walking(2, voting_iou=0.3)({}, [PROPOSALS[:1]], [SHAPE])

    first, second = (torch.sigmoid(torch.tensor(left / 50)).item() for left in (10.0, 20.0))
    left = (20 * first + 30 * second) / (first + second)  # the first reading puts it at 20, the second at 30
    assert found["boxes"][0].tolist() == pytest.approx([left, 10, left + 20, 30], abs=1e-3)


def test_one_reading_is_torchvisions():
    made = walking(1)
    (found,), _ = made({}, [PROPOSALS], [SHAPE])
    torchvisions = made.postprocess_detections(*made.box_predictor(PROPOSALS), [PROPOSALS], [SHAPE])

    assert torch.equal(found["boxes"], torchvisions[0][0])
    assert torch.equal(found["scores"], torchvisions[1][0])


@pytest.mark.parametrize("wrong", [{"voting_iou": -0.1}, {"voting_iou": 1.5}, {"readings": 0}, {"readings": 5}])
def test_a_way_of_reading_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Reading(**wrong)
