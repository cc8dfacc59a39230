import cv2
import numpy as np
import pytest

from dicom_io.drawing import YELLOW, mark_image, scale_for
from dicom_io.types import Box


def decoded(png: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def yellow_extent(picture: np.ndarray, top: int, bottom: int) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((picture[top:bottom] == YELLOW).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def band_heights(shape: tuple[int, int], lines: list[str]) -> tuple[int, int]:
    with_lines = decoded(mark_image(np.zeros(shape, np.float32), [], lines)).shape[0]
    without = decoded(mark_image(np.zeros(shape, np.float32), [], [])).shape[0]
    image = round(shape[0] * scale_for(shape)[1])
    return without - image, with_lines - without


def test_a_box_is_drawn_where_it_lies_on_an_image_of_ordinary_size() -> None:
    pixels = np.zeros((700, 800), np.float32)
    picture = decoded(mark_image(pixels, [Box(200, 300, 420, 460, 0.9)], []))
    top, _ = band_heights((700, 800), [])
    x1, y1, x2, y2 = yellow_extent(picture, top + 297, top + 700)
    assert (x1, y1 + 297, x2, y2 + 297) == pytest.approx((200, 300, 420, 460), abs=2)


def test_a_small_image_is_enlarged_and_its_box_with_it() -> None:
    pixels = np.zeros((60, 64), np.float32)
    picture = decoded(mark_image(pixels, [Box(16, 30, 32, 45, 0.5)], ["outcome: present"]))
    top, _ = band_heights((60, 64), [])
    assert picture.shape[1] == 640
    x1, y1, x2, y2 = yellow_extent(picture, top + 295, top + 600)
    assert (x1, y1 + 295, x2, y2 + 295) == pytest.approx((160, 300, 320, 450), abs=2)


def test_pixels_that_are_twice_as_high_as_wide_are_drawn_so_and_their_box_with_them() -> None:
    picture = decoded(mark_image(np.zeros((350, 800), np.float32), [Box(200, 150, 420, 230, 0.9)], [], 2.0))
    top, _ = band_heights((700, 800), [])
    x1, y1, x2, y2 = yellow_extent(picture, top + 297, top + 700)
    assert (x1, y1 + 297, x2, y2 + 297) == pytest.approx((200, 300, 420, 460), abs=2)


def test_a_huge_image_is_made_smaller() -> None:
    picture = decoded(mark_image(np.zeros((3000, 4096), np.float32), [], []))
    assert picture.shape[1] == 2048


def test_the_warning_stands_above_the_image_and_never_covers_it() -> None:
    pixels = np.full((700, 800), 0.5, np.float32)
    picture = decoded(mark_image(pixels, [], ["absent 0.02", "model 1"]))
    top, bottom = band_heights((700, 800), ["absent 0.02", "model 1"])
    assert top > 10
    assert bottom > 20
    assert (picture[:top] == YELLOW).all(axis=2).any()
    assert (picture[top : top + 700] == 128).all()


def test_a_long_line_fits_into_the_width() -> None:
    line = "model " + "2026-01-01-a-very-long-name+deadbeef " * 6
    picture = decoded(mark_image(np.zeros((640, 640), np.float32), [], [line]))
    assert not picture[-20:, -4:].any()
    assert picture[-20:, :-8].any()


def test_a_box_at_the_edge_keeps_its_score_inside_the_image() -> None:
    picture = decoded(mark_image(np.zeros((640, 640), np.float32), [Box(630, 0, 640, 640, 0.77)], []))
    top, _ = band_heights((640, 640), [])
    assert (picture[top + 600 :, :625] == YELLOW).all(axis=2).any()  # the score, left of the box's own outline
