import numpy as np
import pytest

from training.metrics import (
    BoxesOfImage,
    auc,
    auc_interval,
    average_precision,
    free_response,
    iou,
    match,
    mean_average_precision,
    wilson,
)

HERE, THERE, NOWHERE = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0], [200.0, 200.0, 210.0, 210.0]


def image(found: list[tuple[list[float], float]], truth: list[list[float]]) -> BoxesOfImage:
    return BoxesOfImage(
        np.array([box for box, _ in found]).reshape(-1, 4),
        np.array([score for _, score in found]),
        np.array(truth).reshape(-1, 4),
    )


def test_the_area_is_the_share_of_pairs_in_the_right_order_and_ties_count_half() -> None:
    labels, scores = [1, 1, 0, 0, 0], [0.9, 0.5, 0.5, 0.4, 0.95]
    pairs = [(p > n) + 0.5 * (p == n) for p in (0.9, 0.5) for n in (0.5, 0.4, 0.95)]

    assert auc(labels, scores) == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize(("scores", "area"), [([0, 1, 2, 3], 1.0), ([3, 2, 1, 0], 0.0), ([1, 1, 1, 1], 0.5)])
def test_perfect_inverted_and_blind_scores_have_their_areas(scores: list[float], area: float) -> None:
    assert auc([0, 0, 1, 1], scores) == area


def test_one_class_has_no_area() -> None:
    with pytest.raises(ValueError, match="both classes"):
        auc([1, 1], [0.1, 0.2])


def test_the_bootstrap_interval_holds_the_area_and_narrows_with_more_images() -> None:
    random = np.random.default_rng(0)
    widths = []
    for count in (40, 400):
        labels = np.arange(count) % 2
        scores = random.normal(labels, 1.0)
        low, high = auc_interval(labels, scores, rounds=300)
        assert low < auc(labels, scores) < high
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]


def test_wilson_s_interval_matches_the_textbook() -> None:
    # 81 of 263: Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_overlap_is_common_area_over_joint_area() -> None:
    shifted = [5.0, 0.0, 15.0, 10.0]

    np.testing.assert_allclose(iou(np.array([HERE]), np.array([HERE, shifted, THERE])), [[1.0, 50 / 150, 0.0]])


def test_a_true_box_is_hit_once_and_by_the_better_score() -> None:
    twice = image([(HERE, 0.3), (HERE, 0.8), (NOWHERE, 0.9)], [HERE])

    assert match(twice, 0.5).tolist() == [False, True, False]  # best first: nowhere, the better, the doubled one


def test_all_found_and_nothing_else_is_one() -> None:
    assert average_precision([image([(HERE, 0.9), (THERE, 0.8)], [HERE, THERE])]) == 1.0


def test_nothing_found_is_nought() -> None:
    assert average_precision([image([], [HERE])]) == 0.0


def test_average_precision_of_a_worked_example() -> None:
    # By score: hit (precision 1, recall 1/2), miss, hit (2/3, 1). Read at 101 recalls: 51 times 1, 50 times 2/3.
    images = [image([(HERE, 0.9), (NOWHERE, 0.8)], [HERE]), image([(THERE, 0.7)], [THERE])]

    assert average_precision(images) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_false_box_on_a_normal_image_costs_precision() -> None:
    positive = image([(HERE, 0.5)], [HERE])

    assert average_precision([positive]) == 1.0
    assert average_precision([positive, image([(HERE, 0.9)], [])]) == pytest.approx(0.5)


def test_the_mean_over_overlaps_falls_for_a_loose_box() -> None:
    loose = image([([0.0, 0.0, 10.0, 13.0], 0.9)], [HERE])  # IoU 0.77: counts at 0.50 to 0.75, six of ten

    assert average_precision([loose], 0.5) == 1.0
    assert mean_average_precision([loose]) == pytest.approx(0.6)


def test_sensitivity_rises_with_the_false_boxes_allowed() -> None:
    images = [
        image([(HERE, 0.9), (NOWHERE, 0.8), (THERE, 0.7)], [HERE, THERE]),
        image([(NOWHERE, 0.6)], [HERE]),
    ]

    assert free_response(images, [0.0, 0.5, 1.0]) == pytest.approx([1 / 3, 2 / 3, 2 / 3])
