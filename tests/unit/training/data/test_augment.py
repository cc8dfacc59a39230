import numpy as np
import pytest

from training.data.augment import CHANGES, Geometry, develop, invert, paste, place

SIZE = (220, 260)  # rows, columns


def with_bright_box(rows: int, columns: int, box: tuple[int, int, int, int]) -> np.ndarray:
    pixels = np.full((rows, columns), 0.1, np.float32)
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = 1.0
    return pixels


def bright_bounds(pixels: np.ndarray) -> list[float]:
    at = np.argwhere(pixels > 0.5)
    return [at[:, 1].min(), at[:, 0].min(), at[:, 1].max() + 1, at[:, 0].max() + 1]


def radiograph() -> np.ndarray:
    return np.random.default_rng(1).random((60, 40), dtype=np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_a_box_follows_its_pixels_through_zoom_and_flips(seed: int) -> None:
    box = (120, 80, 160, 130)
    straight = Geometry(degrees=0, zoom=1.3, mirrored=0.5, upside_down=0.5)
    matrix = straight.draw(np.random.default_rng(seed), (140, 105), SIZE)

    placed, boxes = place(with_bright_box(300, 240, box), np.array([box], np.float32), matrix, SIZE)

    np.testing.assert_allclose(boxes[0], bright_bounds(placed), atol=1.0)


@pytest.mark.parametrize("seed", range(8))
def test_a_turned_box_lies_between_the_upright_one_and_the_one_around_its_corners(seed: int) -> None:
    box = (120, 80, 160, 130)
    turning = Geometry(degrees=20, zoom=1.0, mirrored=0, upside_down=0)
    matrix = turning.draw(np.random.default_rng(seed), (140, 105), SIZE)

    placed, boxes = place(with_bright_box(300, 240, box), np.array([box], np.float32), matrix, SIZE)

    x1, y1, x2, y2 = boxes[0]
    around = bright_bounds(placed)
    assert (x1 + x2) / 2 == pytest.approx(SIZE[1] / 2, abs=0.1)
    assert (y1 + y2) / 2 == pytest.approx(SIZE[0] / 2, abs=0.1)
    assert 40 - 0.1 <= x2 - x1 <= around[2] - around[0] + 1
    assert 50 - 0.1 <= y2 - y1 <= around[3] - around[1] + 1


def test_what_is_asked_for_lies_in_the_middle_of_the_canvas() -> None:
    box = (200, 20, 210, 30)
    matrix = Geometry().draw(np.random.default_rng(0), (205, 25), SIZE)

    _, boxes = place(with_bright_box(300, 240, box), np.array([box], np.float32), matrix, SIZE)

    np.testing.assert_allclose(boxes[0, :2] + boxes[0, 2:], (SIZE[1], SIZE[0]), atol=0.5)


def test_a_box_that_loses_more_than_half_is_dropped_and_one_that_loses_less_is_clipped() -> None:
    still = np.array([[1.0, 0, 0], [0, 1, 0]])
    boxes = np.array([[90, 10, 108, 20], [96, 10, 114, 20]], np.float32)

    _, kept = place(np.zeros((100, 100), np.float32), boxes, still, (100, 100))

    assert kept.tolist() == [[90, 10, 100, 20]]


def test_every_change_keeps_the_shape_and_changes_something() -> None:
    pixels = radiograph()
    for _, change in CHANGES:
        changed = change(pixels, np.random.default_rng(2))

        assert changed.shape == pixels.shape
        assert changed.dtype == np.float32
        assert not np.array_equal(changed, pixels), change.__name__


def test_a_developed_image_stays_in_range_and_is_the_generator_s_alone() -> None:
    first, second = (develop(radiograph(), np.random.default_rng(3)) for _ in range(2))

    assert np.array_equal(first, second)
    assert 0 <= first.min() <= first.max() <= 1


def test_inverting_twice_changes_nothing() -> None:
    random = np.random.default_rng(0)

    np.testing.assert_allclose(invert(invert(radiograph(), random), random), radiograph(), atol=1e-6)


def test_an_enlargement_comes_before_the_zoom() -> None:
    straight = Geometry(degrees=0, zoom=1.0, mirrored=0, upside_down=0)

    matrix = straight.draw(np.random.default_rng(0), (30, 20), SIZE, enlargement=2.0)

    np.testing.assert_allclose(matrix, [[2, 0, SIZE[1] / 2 - 60], [0, 2, SIZE[0] / 2 - 40]])


def test_a_fracture_pasted_onto_black_is_still_seen() -> None:
    shown = np.full((60, 60), 0.6, np.float32)
    shown[28:32, 20:40] = 0.9
    box = np.array([[18, 22, 42, 38]], np.float32)

    on_black = paste(np.zeros((60, 60), np.float32), shown, box)

    assert on_black[30, 30] > on_black[25, 30] + 0.2
