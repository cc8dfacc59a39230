"""How regions become boxes: candidates vote on a box's place, and each stage begins where the one before has ended."""

import pytest
import torch

from models.box_heads import STAGES, BoxHeadOptions, box_heads, near
from models.detector import MobileNetV2Detector

SHAPE = (100, 100)
PROPOSALS = torch.tensor([[10.0, 10.0, 30.0, 30.0], [12.0, 10.0, 32.0, 30.0], [60.0, 60.0, 80.0, 80.0]])
LOGITS = torch.tensor([[0.0, 2.0], [0.0, 1.0], [0.0, 1.0]])
LIFT = 0.1  # of a region's width, to the right


def stages(number=1, voting_iou=0.0):
    return [heads.eval() for heads in box_heads(16, BoxHeadOptions(16, voting_iou, number))]


def detector(number, seed=0):
    torch.manual_seed(seed)
    return MobileNetV2Detector(0.25, pyramid_channels=16, representation=16, stages=number).eval()


def chosen(voting_iou):
    (heads,) = stages(1, voting_iou)
    unmoved = torch.zeros(len(PROPOSALS), 8)  # four deltas for background, four for a fracture
    (boxes,), (scores,), _ = heads.postprocess_detections(LOGITS, unmoved, [PROPOSALS], [SHAPE])
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
    (heads,) = stages(1, 0.5)
    none = LOGITS - 20 * torch.eye(2)[1]
    (boxes,), _, _ = heads.postprocess_detections(none, torch.zeros(3, 8), [PROPOSALS], [SHAPE])

    assert boxes.shape == (0, 4)


class Corners(torch.nn.Module):
    """Sees of regions where they lie."""

    def forward(self, _features, regions, _shapes):
        return torch.cat(regions)


class Lifter(torch.nn.Module):
    """Wants every region a tenth of its width further to the right, in deltas of its stage."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, corners):
        deltas = torch.zeros(len(corners), 8)
        deltas[:, 4] = LIFT * self.scale
        return torch.zeros(len(corners), 2), deltas


def test_each_stage_moves_the_regions_of_every_image_by_its_own_scale():
    regions = [PROPOSALS[:2], torch.zeros(0, 4), PROPOSALS[2:]]
    for heads, stage in zip(stages(3), STAGES, strict=True):
        heads.box_roi_pool, heads.box_head = Corners(), torch.nn.Identity()
        heads.box_predictor = Lifter(stage.delta_weights[0])
        moved = heads.move({}, regions, [SHAPE, SHAPE, (100, 81)])

        shift = torch.tensor([2.0, 0.0, 2.0, 0.0])
        assert torch.allclose(moved[0], PROPOSALS[:2] + shift)
        assert moved[1].shape == (0, 4)
        assert moved[2].tolist()[0] == pytest.approx([62, 60, 81, 80])  # clipped to its image


def test_a_later_stage_begins_as_the_one_before_in_its_own_scale():
    first, second = stages(2)
    second.begin_as(first)
    pooled = torch.rand(5, 16, 7, 7)

    (logits, deltas), (later_logits, later_deltas) = (
        heads.box_predictor(heads.box_head(pooled)) for heads in (first, second)
    )
    regions = [torch.rand(5, 4).cumsum(1) * 20]
    assert torch.equal(logits, later_logits)
    assert torch.allclose(
        first.box_coder.decode(deltas, regions), second.box_coder.decode(later_deltas, regions), atol=1e-4
    )
    assert not torch.allclose(deltas, later_deltas)


def test_a_detector_answers_by_its_last_stage():
    made, maps = detector(2), torch.rand(1, 8, 20, 20)
    with torch.no_grad():
        before = made(maps, [(160, 160)])[0][0]["scores"]
        made.later_stages[0].box_predictor.cls_score.bias += torch.tensor([0.0, 3.0])
        made.roi_heads.box_predictor.cls_score.bias -= torch.tensor([0.0, 3.0])
        after = made(maps, [(160, 160)])[0][0]["scores"]

    assert len(before) > 0
    assert after.max() > before.max()


def test_a_detector_of_two_stages_begins_from_one_of_one_and_learns_the_second_alone():
    single, double = detector(1), detector(2, seed=1)
    double.begin_from(single.state_dict())

    assert all(torch.equal(tensor, double.state_dict()[name]) for name, tensor in single.state_dict().items())
    assert torch.equal(double.later_stages[0].box_head.fc6.weight, single.roi_heads.box_head.fc6.weight)

    double.requires_grad_(False)
    double.stages[-1].train().requires_grad_(True)
    targets = [{"boxes": PROPOSALS, "labels": torch.ones(len(PROPOSALS), dtype=torch.int64)}]
    detections, losses = double(torch.rand(1, 8, 20, 20), [(160, 160)], targets)
    assert detections == []
    assert losses.keys() == {"loss_classifier_2", "loss_box_reg_2"}
    assert all(loss.requires_grad and loss > 0 for loss in losses.values())


def test_all_stages_can_learn_together():
    made = detector(2).train()
    targets = [{"boxes": PROPOSALS, "labels": torch.ones(len(PROPOSALS), dtype=torch.int64)}]
    _, losses = made(torch.rand(1, 8, 20, 20), [(160, 160)], targets)
    sum(losses.values()).backward()

    assert {"loss_classifier", "loss_classifier_2", "loss_objectness"} <= losses.keys()
    assert made.later_stages[0].box_head.fc6.weight.grad.abs().sum() > 0
    assert made.roi_heads.box_head.fc6.weight.grad.abs().sum() > 0


def test_a_stage_keeps_its_own_weights_where_it_has_them():
    double, again = detector(2), detector(2, seed=1)
    again.begin_from(double.state_dict())

    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in double.state_dict().items())


def test_weights_of_another_network_are_refused():
    weights = {name: tensor for name, tensor in detector(1).state_dict().items() if "rpn" not in name}
    with pytest.raises(RuntimeError, match="another network"):
        detector(2).begin_from(weights)


def test_boxes_near_a_true_one_overlap_it_and_lie_in_the_image():
    torch.manual_seed(0)
    found = near(PROPOSALS, (100, 79))

    assert found.shape == (12, 4)
    assert found[:, 2].max() <= 79
    assert (found - PROPOSALS.repeat(4, 1)).abs().max() > 0.5
    assert (found - PROPOSALS.repeat(4, 1)).abs().mean() < 3
    assert near(torch.zeros(0, 4), SHAPE).shape == (0, 4)


@pytest.mark.parametrize("wrong", [{"voting_iou": -0.1}, {"voting_iou": 1.5}, {"stages": 0}, {"stages": 4}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"voting_iou|stages"):
        BoxHeadOptions(16, **wrong)
