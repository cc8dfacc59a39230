import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import roc_auc_score

from training.evaluate.image_curves import precision_recall_area, precision_recall_points, roc_points
from training.evaluate.metrics import (
    BoxesOfImage,
    auc,
    auc_difference_interval,
    auc_interval,
    average_precision,
    average_precision_interval,
    brier,
    calibration_bins,
    calibration_error,
    found_at,
    found_at_intervals,
    free_response,
    free_response_points,
    iou,
    match,
    mean_average_precision,
    points_at,
    precision_area,
    rank,
    thin,
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


def test_a_box_whose_centre_lies_in_the_true_one_counts_and_one_beside_it_does_not() -> None:
    small, loose, beside = [2.0, 2.0, 4.0, 4.0], [-4.0, -4.0, 10.0, 10.0], [9.0, 9.0, 19.0, 19.0]

    reading = [match(image([(box, 0.9)], [HERE]), 0.3, points_at).tolist() for box in (small, loose, beside)]

    assert reading == [[True], [True], [False]]
    assert match(image([(small, 0.9)], [HERE]), 0.3).tolist() == [False]  # an IoU of 0.04


def test_of_two_true_boxes_around_a_centre_the_one_that_overlaps_more_is_hit() -> None:
    around = [-20.0, -20.0, 30.0, 30.0]

    both = match(image([(HERE, 0.9), (around, 0.8)], [around, HERE]), 0.3, points_at)

    assert both.tolist() == [True, True]


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


def test_sensitivity_can_be_read_by_what_a_box_points_at() -> None:
    images = [image([([2.0, 2.0, 4.0, 4.0], 0.9)], [HERE])]

    assert free_response(images, [0.5]) == [0.0]
    assert free_response(images, [0.5], 0.3, points_at) == [1.0]


def random_images(seed: int, count: int = 25) -> list[BoxesOfImage]:
    """Images with up to four true boxes, most of them found more or less well, and false boxes; some without either."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        corners = random.uniform(0, 200, (random.integers(0, 5), 2))
        truth = np.hstack([corners, corners + random.uniform(30, 80, corners.shape)])
        near = truth[random.random(len(truth)) < 0.8]
        near = np.repeat(near, 2, axis=0) + random.normal(0, 5, (2 * len(near), 4))
        far = random.uniform(0, 200, (random.integers(0, 6), 2))
        boxes = np.vstack([near, np.hstack([far, far + random.uniform(5, 50, far.shape)])])
        images.append(BoxesOfImage(boxes, random.random(len(boxes)), truth))
    return images


def coco_says(images: list[BoxesOfImage]) -> tuple[float, float]:
    """COCO's own program on the same boxes: AP at 0.50 and AP over 0.50 .. 0.95, 100 boxes an image at most."""

    def of(number: int, box: np.ndarray) -> dict[str, object]:
        x1, y1, x2, y2 = map(float, box)
        sides = [x1, y1, x2 - x1, y2 - y1]
        return {"image_id": number, "category_id": 1, "bbox": sides, "area": sides[2] * sides[3], "iscrowd": 0}

    true = [of(number, box) for number, image in enumerate(images, 1) for box in image.truth]
    found = [
        {**of(number, box), "score": float(score)}
        for number, image in enumerate(images, 1)
        for box, score in zip(image.boxes, image.scores, strict=True)
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(1, len(images) + 1)],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(true, 1)],
        "categories": [{"id": 1, "name": "fracture"}],
        "info": {},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[1]), float(evaluation.stats[0])


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_what_coco_s_own_program_says(seed: int) -> None:
    images = random_images(seed)

    ours = average_precision(images), mean_average_precision(images)

    assert ours == pytest.approx(coco_says(images), abs=1e-6)
    assert 0.05 < ours[1] < ours[0] < 0.95


def test_the_area_is_scikit_learn_s() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.random(200) < 0.3, random.random(200).round(1)

    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_an_image_drawn_twice_counts_as_two_copies() -> None:
    images = random_images(3, count=6)
    weights = np.array([2, 0, 1, 3, 0, 1])
    copies = [image for image, times in zip(images, weights, strict=True) for _ in range(times)]

    assert precision_area(rank(images), weights) == pytest.approx(average_precision(copies))
    assert found_at(rank(images), [0.5, 2.0], weights) == pytest.approx(free_response(copies, [0.5, 2.0]))


def test_the_interval_of_the_boxes_found_holds_their_share() -> None:
    images = random_images(5, count=60)

    intervals = found_at_intervals(rank(images), [0.5, 1.0], rounds=300)

    shares = free_response(images, [0.5, 1.0])
    assert all(low < share < high for share, (low, high) in zip(shares, intervals, strict=True))


def test_the_interval_of_average_precision_holds_it_and_widens_when_images_of_a_patient_agree() -> None:
    images = [image for image in random_images(1, count=10) for _ in range(4)]

    low, high = average_precision_interval(images, rounds=300)
    by_patient = average_precision_interval(images, groups=np.repeat(np.arange(10), 4), rounds=300)

    assert low < average_precision(images) < high
    assert by_patient[1] - by_patient[0] > 1.4 * (high - low)


def test_the_interval_by_patient_is_wider_where_images_of_a_patient_agree() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(40) % 2, 5)
    scores = np.repeat(random.normal(np.arange(40) % 2, 1.0), 5)

    by_image = auc_interval(labels, scores, rounds=300)
    by_patient = auc_interval(labels, scores, rounds=300, groups=np.repeat(np.arange(40), 5))

    assert by_patient[1] - by_patient[0] > 1.5 * (by_image[1] - by_image[0])


def test_the_bootstrap_is_that_of_areas_of_drawn_images() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3 == 0
    scores = random.normal(labels, 1.0).round(1)
    positives, negatives = np.flatnonzero(labels), np.flatnonzero(~labels)
    drawn = [np.concatenate([random.choice(each, len(each)) for each in (positives, negatives)]) for _ in range(3000)]

    plain = np.percentile([auc(labels[images], scores[images]) for images in drawn], [2.5, 97.5])

    assert auc_interval(labels, scores) == pytest.approx(tuple(plain), abs=0.015)


def test_a_better_score_has_a_difference_above_nought_and_the_same_score_none() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(300) % 2
    good, bad = random.normal(2 * labels, 1.0), random.normal(0.3 * labels, 1.0)

    assert auc_difference_interval(labels, good, bad)[0] > 0
    assert auc_difference_interval(labels, good, good) == (0.0, 0.0)


def test_calibration_error_and_brier_score_of_a_worked_example() -> None:
    # Bin 0.2: four images said 0.25, one is positive; bin 0.9: two images said 0.9, both are.
    labels, said = [1, 0, 0, 0, 1, 1], [0.25, 0.25, 0.25, 0.25, 0.9, 0.9]

    assert [(each.images, each.share) for each in calibration_bins(labels, said)] == [(4, 0.25), (2, 1.0)]
    assert calibration_error(labels, said) == pytest.approx((4 * 0.0 + 2 * 0.1) / 6)
    assert brier(labels, said) == pytest.approx((0.75**2 + 3 * 0.25**2 + 2 * 0.1**2) / 6)


def test_curves_of_images_begin_and_end_where_they_must() -> None:
    labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]

    roc, curve = roc_points(labels, scores), precision_recall_points(labels, scores)

    assert (roc[0], roc[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert curve[0] == (0.0, 1.0)
    assert curve[-1] == (1.0, 0.5)
    assert precision_recall_area(labels, scores) == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 3)


def test_the_whole_free_response_curve_agrees_with_its_single_points_and_is_thin() -> None:
    images = random_images(7, count=200)
    points = free_response_points(images)

    assert len(points) <= 60
    assert [found for _, found, _ in points] == sorted(found for _, found, _ in points)
    for false, found, _ in points:
        assert free_response(images, [false + 1e-9])[0] == pytest.approx(found)


def test_thinning_keeps_both_ends() -> None:
    assert thin(1000, 5).tolist() == [0, 250, 500, 749, 999]
    assert thin(3, 5).tolist() == [0, 1, 2]


def test_no_box_at_all_gives_an_empty_curve() -> None:
    assert free_response_points([image([], [HERE])]) == []
