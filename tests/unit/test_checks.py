"""Checks against fooling oneself find what was planted, and nothing where nothing is."""

from pathlib import Path

import numpy as np

from training.data.augment import carry
from training.data.dataset import Radiograph
from training.data.near_duplicates import SIDE, Pair, block_of, find_pairs, groups_of, summarise
from training.experiments.robustness import CHANGES, choose, turn


def radiograph(number: int, *, split: str = "train", fractured: bool = False, truncated: bool = False) -> Radiograph:
    return Radiograph(f"IMG{number:07}.jpg", Path(f"IMG{number:07}.jpg"), split, fractured, truncated, (), ())


def bones(count: int, seed: int = 0) -> np.ndarray:
    """Pictures with coarse shapes and grain of their own."""
    random = np.random.default_rng(seed)
    coarse = np.kron(random.random((count, 8, 8)), np.ones((SIDE // 8, SIDE // 8)))
    return (0.8 * coarse + 0.2 * random.random((count, SIDE, SIDE))).astype(np.float32)


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
