import numpy as np
import pytest

from training.augment import flip, jitter


def with_bright_box(rows: int, columns: int, box: tuple[int, int, int, int]) -> np.ndarray:
    pixels = np.full((rows, columns), 0.1, np.float32)
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = 1.0
    return pixels


def bright_bounds(pixels: np.ndarray) -> list[float]:
    at = np.argwhere(pixels > 0.5)
    return [at[:, 1].min(), at[:, 0].min(), at[:, 1].max() + 1, at[:, 0].max() + 1]


def test_a_mirrored_box_holds_the_mirrored_pixels_exactly() -> None:
    pixels, boxes = flip(with_bright_box(40, 60, (5, 7, 15, 12)), np.array([[5, 7, 15, 12]], np.float32))

    assert boxes.tolist() == [bright_bounds(pixels)]


def test_mirroring_twice_changes_nothing() -> None:
    pixels, boxes = np.random.default_rng(0).random((9, 7), dtype=np.float32), np.array([[1, 2, 3, 4]], np.float32)

    again, boxes_again = flip(*flip(pixels, boxes))

    assert np.array_equal(again, pixels)
    assert np.array_equal(boxes_again, boxes)


@pytest.mark.parametrize("seed", range(8))
def test_a_jittered_box_follows_its_pixels(seed: int) -> None:
    box = (120, 80, 160, 130)
    pixels = with_bright_box(300, 240, box)

    turned, boxes = jitter(pixels, np.array([box], np.float32), np.random.default_rng(seed))

    np.testing.assert_allclose(boxes[0], bright_bounds(turned), atol=1.5)
    assert not np.allclose(boxes[0], box, atol=1.5)


def test_a_box_pushed_out_of_the_image_is_dropped() -> None:
    corners = np.array([[0, 0, 4, 4], [0, 296, 4, 300], [236, 0, 240, 4], [236, 296, 240, 300]], np.float32)

    kept = [len(jitter(np.zeros((300, 240), np.float32), corners, np.random.default_rng(seed))[1]) for seed in range(8)]

    assert min(kept) < 4


def test_jitter_is_the_generator_s_alone() -> None:
    pixels, none = np.random.default_rng(1).random((50, 40), dtype=np.float32), np.empty((0, 4), np.float32)

    first, second = (jitter(pixels, none, np.random.default_rng(3))[0] for _ in range(2))

    assert np.array_equal(first, second)
    assert first.shape == pixels.shape
    assert 0 <= first.min() <= first.max() <= 1
