"""Checks against fooling oneself find what was planted, and nothing where nothing is."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.augment import carry
from training.data.dataset import Radiograph
from training.data.near_duplicates import SIDE, Pair, block_of, find_pairs, groups_of, summarise
from training.data.texture import Texture, kept, square
from training.experiments.baseline_sets import Pool, draw_balanced, grouped, parts_of
from training.experiments.baselines import best_f1
from training.experiments.checks import Material, frame_of, shortcut, shuffled
from training.experiments.robustness import CHANGES, choose, turn


def radiograph(number: int, *, split: str = "train", fractured: bool = False, truncated: bool = False) -> Radiograph:
    return Radiograph(f"IMG{number:07}.jpg", Path(f"IMG{number:07}.jpg"), split, fractured, truncated, (), ())


def bones(count: int, seed: int = 0) -> np.ndarray:
    """Pictures with coarse shapes and grain of their own."""
    random = np.random.default_rng(seed)
    coarse = np.kron(random.random((count, 8, 8)), np.ones((SIDE // 8, SIDE // 8)))
    return (0.8 * coarse + 0.2 * random.random((count, SIDE, SIDE))).astype(np.float32)


def material(informative: bool) -> Material:
    random = np.random.default_rng(1)
    labels = random.random(300) < 0.4
    features = random.standard_normal((300, 20)).astype(np.float32)
    features[:, 0] += 3 * labels * informative
    return Material(features[:150], labels[:150], features[150:], labels[150:])


def test_a_mirrored_and_a_turned_copy_are_found_and_nothing_else():
    pictures = bones(6)
    copies = np.stack([pictures[0][:, ::-1], np.rot90(pictures[1])])

    pairs = find_pairs(np.concatenate([pictures, copies]))

    assert [(pair.first, pair.second) for pair in pairs] == [(0, 6), (1, 7)]
    assert all(pair.correlation > 0.99 for pair in pairs)


def test_a_copy_whose_lower_part_is_missing_is_found_by_its_upper_part():
    pictures = bones(4)
    cut = pictures[2].copy()
    cut[int(0.7 * SIDE) :] = 0.5

    pairs = find_pairs(np.concatenate([pictures, cut[None]]))

    assert [(pair.first, pair.second) for pair in pairs] == [(2, 4)]


def test_the_same_shapes_with_other_grain_are_no_duplicates():
    pictures = bones(3)
    grain = np.random.default_rng(5).random((SIDE, SIDE), dtype=np.float32)
    coarse = pictures[0].reshape(8, SIDE // 8, 8, SIDE // 8).mean((1, 3))
    alike = 0.7 * np.kron(coarse, np.ones((SIDE // 8, SIDE // 8))) + 0.3 * grain

    assert not find_pairs(np.stack([*pictures, alike.astype(np.float32)]))


def test_a_pair_with_a_file_that_ends_early_is_told_from_a_leak():
    images = [radiograph(1), radiograph(2, fractured=True), radiograph(3, split="valid")]
    images.append(radiograph(4, split="valid", truncated=True))
    pictures = bones(2)

    found = summarise(images, find_pairs(pictures[[0, 1, 0, 1]]))

    assert (found["pairs_across_splits"], found["pairs_across_splits_of_whole_files"]) == (2, 1)
    assert found["pairs_with_two_labels"] == 1


def test_a_block_is_cut_with_all_that_is_nearly_in_it_and_without_what_lies_in_valid():
    images = [*(radiograph(number) for number in range(7)), radiograph(9, split="valid")]
    pairs = [Pair(first, second, 0, 0.9) for first, second in ((0, 1), (1, 4), (5, 7))]

    block = block_of(images, pairs, range(4, 7))

    names = {number: f"IMG{number:07}.jpg" for number in range(7)}
    assert block == {names[0]: "left out", names[1]: "left out", names[4]: "tune", names[6]: "tune"}


def test_groups_join_over_others():
    assert groups_of(5, [(0, 1), (1, 4)]).tolist() == [0, 0, 1, 2, 0]


def test_neighbours_by_number_and_duplicates_stay_together_in_every_part():
    random = np.random.default_rng(3)
    images = [
        radiograph(n, split="valid" if n >= 900 else "train", fractured=random.random() < 0.4) for n in range(1000)
    ]
    pool = Pool(tuple(images), grouped(images, [(5, 505), (17, 999)]))

    for name in ("natural", "balanced"):
        parts = parts_of(pool, name, seed=1)
        members = [set(pool.groups[part]) for part in (parts.fit, parts.tune, parts.test)]
        assert not any(one & other for one, other in itertools.combinations(members, 2))
    assert pool.groups[5] == pool.groups[500] != pool.groups[10]


def test_the_balanced_set_is_half_fractured_and_seventy_fifteen_fifteen():
    images = [radiograph(n, fractured=n % 2 == 0) for n in range(1400)]
    pool = Pool(tuple(images), grouped(images, []))

    parts = parts_of(pool, "balanced", seed=2)

    assert pool.labels[draw_balanced(pool.labels, seed=2)].mean() == 0.5
    shares = [len(part) / 1200 for part in (parts.fit, parts.tune, parts.test)]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.03)


def test_a_shortcut_in_the_frame_is_found_and_noise_is_none():
    noise = material(informative=False)

    assert shortcut(material(informative=True), noise, seed=0).verdict.startswith("In part: AUC 0.9")
    assert shortcut(noise, noise, seed=0).verdict.startswith("No")


def test_shuffled_labels_teach_nothing_where_true_ones_do():
    check = shuffled(material(informative=True), seed=0)

    assert check.metrics["auc_true_labels"] > 0.95
    assert abs(check.metrics["auc_mean"] - 0.5) < 0.05
    assert check.verdict.startswith("Yes")


def test_true_labels_that_rank_no_better_than_shuffled_ones_fail_the_check():
    assert shuffled(material(informative=False), seed=0).verdict.startswith("No")


def test_the_frame_sees_borders_and_no_bone():
    pixels = np.full((100, 80), 0.5, dtype=np.float32)
    with_bone, with_border = pixels.copy(), pixels.copy()
    with_bone[40:60, 30:50] = 0.7
    with_border[:4] = 0.7

    assert len(frame_of(pixels)) == 30
    assert np.flatnonzero(frame_of(with_bone) != frame_of(pixels)).tolist() in ([11], [11, 13])  # maximum, percentile
    assert len(np.flatnonzero(frame_of(with_border) != frame_of(pixels))) > 4


def test_texture_has_one_length_for_every_shape():
    random = np.random.default_rng(0)
    shapes = [random.random(shape, dtype=np.float32) for shape in ((120, 90), (64, 200))]

    assert len({len(Texture().describe(pixels)) for pixels in shapes}) == 1
    assert square(shapes[1], 32)[12:].max() == 0  # the image lies in the upper left corner, black below


def test_features_that_were_kept_are_read_and_not_computed_again(tmp_path):
    path = tmp_path / "IMG0000001.png"
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(path)
    item = Radiograph(path.name, path, "train", False, False, (), ())
    asked = []

    def describe(pixels):
        asked.append(pixels.shape)
        return pixels[0]

    first, second = (kept("rows", describe, [item], tmp_path) for _ in range(2))

    assert np.array_equal(first, second)
    assert asked == [(8, 8)]


def test_the_threshold_of_the_best_f1_parts_the_classes():
    labels = np.array([False, False, True, True])

    assert best_f1(labels, np.array([0.1, 0.2, 0.6, 0.9])) == 0.6


def test_a_box_goes_where_a_turned_fracture_goes():
    pixels = np.zeros((60, 100), dtype=np.float32)
    pixels[10:20, 70:80] = 1

    turned, matrix = turn(pixels, 20)

    ((x1, y1, x2, y2),) = carry(np.array([[70, 10, 80, 20]], dtype=np.float32), matrix, turned.shape)
    rows, columns = np.nonzero(turned > 0.5)
    assert abs(columns.mean() + 0.5 - (x1 + x2) / 2) < 0.3
    assert abs(rows.mean() + 0.5 - (y1 + y2) / 2) < 0.3
    assert abs(turned.sum() - pixels.sum()) < 2


def test_changes_of_looks_keep_shape_and_range():
    pixels = np.random.default_rng(0).random((41, 33), dtype=np.float32)
    for change in CHANGES.values():
        changed = change.appearance(pixels, np.random.default_rng(1))
        assert (changed.shape, changed.dtype) == (pixels.shape, np.float32)
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_half_of_the_images_under_every_change_are_fractured_and_all_are_whole():
    images = [radiograph(n, fractured=n % 5 == 0, truncated=n % 7 == 1) for n in range(100)]

    chosen = choose(images, 20)

    assert [sum(item.fractured for item in chosen), len(chosen)] == [10, 20]
    assert not any(item.truncated for item in chosen)
