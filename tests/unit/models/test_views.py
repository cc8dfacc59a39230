import numpy as np
import pytest

from models.types import ScoredBox
from models.views import MOST_BOXES, fuse, mirror, mirror_boxes


def test_one_look_comes_back_as_it_is() -> None:
    boxes = [ScoredBox(1, 2, 3, 4, 0.9), ScoredBox(1, 2, 3, 4.5, 0.2)]

    assert fuse([boxes]) == tuple(boxes)


def test_what_both_looks_see_keeps_its_score_and_what_one_sees_loses_half() -> None:
    fused = fuse([[ScoredBox(0, 0, 10, 10, 0.8), ScoredBox(50, 50, 60, 60, 0.6)], [ScoredBox(1, 0, 11, 10, 0.8)]])

    assert [box.score for box in fused] == pytest.approx([0.8, 0.3])
    assert (fused[0].x1, fused[0].x2) == pytest.approx((0.5, 10.5))


def test_the_surer_look_has_more_say_in_the_corners() -> None:
    (fused,) = fuse([[ScoredBox(0, 0, 10, 10, 0.9)], [ScoredBox(2, 0, 12, 10, 0.3)]])

    assert fused.x1 == pytest.approx(0.5)


def test_two_boxes_of_one_place_never_count_for_more_than_the_looks() -> None:
    same = [ScoredBox(0, 0, 10, 10, 0.9), ScoredBox(0, 0, 10, 10.5, 0.9), ScoredBox(0, 0, 10, 11, 0.9)]

    assert fuse([same, []])[0].score <= 0.9


def test_looks_that_see_nothing_give_nothing() -> None:
    assert fuse([[], []]) == ()


def test_no_more_boxes_come_out_than_one_network_gives() -> None:
    apart = [ScoredBox(20 * n, 0, 20 * n + 10, 10, 0.5) for n in range(40)]

    assert len(fuse([apart, []])) == MOST_BOXES


def test_a_mirrored_box_lies_on_the_same_pixels() -> None:
    pixels = np.zeros((8, 20), np.float32)
    pixels[2:4, 15:18] = 1

    (back,) = mirror_boxes([ScoredBox(2, 2, 5, 4, 0.7)], columns=20)

    assert mirror(pixels)[2:4, 2:5].min() == 1
    assert (back.x1, back.y1, back.x2, back.y2) == (15, 2, 18, 4)
