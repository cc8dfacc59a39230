import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.preprocess import (
    CANVAS_MULTIPLE,
    IMAGENET,
    Preprocessing,
    fit,
    normalise,
    prepare,
    reduce_noise,
    stretch,
)

sides = st.integers(min_value=32, max_value=4000)
shares = st.floats(min_value=0, max_value=1)


@given(rows=sides, columns=sides, corners=st.tuples(shares, shares, shares, shares), longest=st.integers(64, 2048))
def test_a_box_comes_back_from_the_canvas_to_the_pixel_it_left(rows, columns, corners, longest) -> None:
    left, top, right, bottom = corners
    box = np.array([[left * columns, top * rows, right * columns, bottom * rows]])
    letterbox = fit(rows, columns, longest)

    returned = letterbox.to_source(letterbox.to_canvas(box))

    np.testing.assert_allclose(returned, box, atol=1e-6)


@given(rows=sides, columns=sides, longest=st.integers(64, 2048))
def test_the_image_fills_the_longest_side_and_the_canvas_holds_it(rows, columns, longest) -> None:
    letterbox = fit(rows, columns, longest)

    assert max(letterbox.rows, letterbox.columns) == longest
    assert letterbox.canvas_rows % CANVAS_MULTIPLE == letterbox.canvas_columns % CANVAS_MULTIPLE == 0
    assert 0 <= letterbox.canvas_rows - letterbox.rows < CANVAS_MULTIPLE
    assert 0 <= letterbox.canvas_columns - letterbox.columns < CANVAS_MULTIPLE


def test_the_image_s_far_corner_is_the_resized_image_s_far_corner() -> None:
    letterbox = fit(454, 373, 576)

    np.testing.assert_allclose(letterbox.to_canvas([[0, 0, 373, 454]]), [[0, 0, letterbox.columns, 576]])


def test_boxes_on_the_padding_are_clipped_to_the_image() -> None:
    letterbox = fit(454, 373, 576)

    np.testing.assert_allclose(letterbox.to_source([[-9, -9, 9999, 9999]]), [[0, 0, 373, 454]])


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (2000, 1500), (64, 64)])
def test_a_bright_rectangle_lies_on_the_canvas_where_its_box_says(size: tuple[int, int]) -> None:
    rows, columns = size
    box = np.array([[columns // 4, rows // 4, columns // 2, rows // 2]])
    pixels = np.zeros(size, np.float32)
    pixels[rows // 4 : rows // 2, columns // 4 : columns // 2] = 1.0

    canvas, letterbox = prepare(pixels, Preprocessing(256, denoise="none", stretch_percentiles=(0, 100)))

    bright = np.argwhere(canvas > 0.5)
    edges = [bright[:, 1].min(), bright[:, 0].min(), bright[:, 1].max() + 1, bright[:, 0].max() + 1]
    np.testing.assert_allclose(letterbox.to_canvas(box)[0], edges, atol=1.0)


def test_padding_is_black() -> None:
    canvas, letterbox = prepare(np.linspace(0.4, 1, 454 * 373, dtype=np.float32).reshape(454, 373), Preprocessing(576))

    assert canvas[:, letterbox.columns :].size > 0
    assert not canvas[:, letterbox.columns :].any()


def test_the_answer_does_not_hang_on_the_width_of_a_linear_window() -> None:
    pixels = np.random.default_rng(0).random((100, 80), dtype=np.float32)

    wide, narrow = stretch(pixels * 0.5 + 0.2, (0.5, 99.5)), stretch(pixels, (0.5, 99.5))

    np.testing.assert_allclose(wide, narrow, atol=1e-5)
    assert narrow.min() == 0.0
    assert narrow.max() == 1.0


def test_one_grey_value_is_stretched_to_black_without_a_division_by_nought() -> None:
    assert not stretch(np.full((50, 50), 0.7, np.float32), (0.5, 99.5)).any()


@pytest.mark.parametrize("kind", ["median", "bilateral"])
def test_noise_is_reduced_and_an_edge_stays(kind: str) -> None:
    edge = np.repeat([[0.2] * 32 + [0.8] * 32], 64, axis=0).astype(np.float32)
    noisy = edge + np.random.default_rng(0).normal(0, 0.03, edge.shape).astype(np.float32)

    quiet = reduce_noise(noisy, Preprocessing(64, denoise=kind))  # type: ignore[arg-type]

    assert np.std(quiet[:, 4:28]) < 0.7 * np.std(noisy[:, 4:28])
    assert quiet[:, 34].mean() - quiet[:, 29].mean() > 0.5


def test_a_bundle_without_noise_reduction_gets_its_pixels_untouched() -> None:
    pixels = np.random.default_rng(0).random((40, 40), dtype=np.float32)

    assert np.array_equal(reduce_noise(pixels, Preprocessing(64, denoise="none")), pixels)


def test_normalisation_gives_three_standardised_channels() -> None:
    channels = normalise(np.full((32, 64), 0.485, np.float32), IMAGENET)

    assert channels.shape == (3, 32, 64)
    assert channels.dtype == np.float32
    np.testing.assert_allclose(channels[:, 0, 0], [0.0, (0.485 - 0.456) / 0.224, (0.485 - 0.406) / 0.225], atol=1e-6)
