from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dicom_io.pixels.visibility import STRETCHED
from dicom_io.report.drawing import FONT, HEADING, YELLOW, Marks, mark_image, marks_of, scale_for
from dicom_io.types import Box, Outcome, ReportedImage

BOXES = (Box(10, 20, 30, 40, 0.9), Box(30, 40, 50, 60, 0.4))


def decoded(png: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def yellow_extent(picture: np.ndarray, top: int, bottom: int) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((picture[top:bottom] == YELLOW).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def band_heights(shape: tuple[int, int], lines: list[str]) -> tuple[int, int]:
    with_lines = decoded(mark_image(np.zeros(shape, np.float32), Marks(details=lines))).shape[0]
    without = decoded(mark_image(np.zeros(shape, np.float32), Marks())).shape[0]
    image = round(shape[0] * scale_for(shape)[1])
    return without - image, with_lines - without


def test_a_box_is_drawn_where_it_lies_on_an_image_of_ordinary_size() -> None:
    pixels = np.zeros((700, 800), np.float32)
    picture = decoded(mark_image(pixels, Marks([Box(200, 300, 420, 460, 0.9)])))
    top, _ = band_heights((700, 800), [])
    x1, y1, x2, y2 = yellow_extent(picture, top + 297, top + 700)
    assert (x1, y1 + 297, x2, y2 + 297) == pytest.approx((200, 300, 420, 460), abs=2)


def test_a_small_image_is_enlarged_and_its_box_with_it() -> None:
    pixels = np.zeros((60, 64), np.float32)
    picture = decoded(mark_image(pixels, Marks([Box(16, 30, 32, 45, 0.5)], "outcome: present")))
    top, _ = band_heights((60, 64), [])
    assert picture.shape[1] == 640
    x1, y1, x2, y2 = yellow_extent(picture, top + 295, top + 600)
    assert (x1, y1 + 295, x2, y2 + 295) == pytest.approx((160, 300, 320, 450), abs=2)


def test_pixels_that_are_twice_as_high_as_wide_are_drawn_so_and_their_box_with_them() -> None:
    picture = decoded(mark_image(np.zeros((350, 800), np.float32), Marks([Box(200, 150, 420, 230, 0.9)], aspect=2.0)))
    top, _ = band_heights((700, 800), [])
    x1, y1, x2, y2 = yellow_extent(picture, top + 297, top + 700)
    assert (x1, y1 + 297, x2, y2 + 297) == pytest.approx((200, 300, 420, 460), abs=2)


def test_a_huge_image_is_made_smaller() -> None:
    picture = decoded(mark_image(np.zeros((3000, 4096), np.float32), Marks()))
    assert picture.shape[1] == 2048


def test_the_warning_stands_above_the_image_and_never_covers_it() -> None:
    pixels = np.full((700, 800), 0.5, np.float32)
    picture = decoded(mark_image(pixels, Marks(details=["absent 0.02", "model 1"])))
    top, bottom = band_heights((700, 800), ["absent 0.02", "model 1"])
    assert top > 10
    assert bottom > 20
    assert (picture[:top] == YELLOW).all(axis=2).any()
    assert (picture[top : top + 700] == 128).all()


@pytest.mark.parametrize("shape", [(640, 640), (200, 150), (3000, 300), (3000, 2400), (64, 64)])
@pytest.mark.parametrize(
    "version", ["2026-01-01-a-name+deadbeef", "2026-01-01-" + "a-very-long-name-" * 9 + "+deadbeef"]
)
def test_no_line_runs_out_of_the_picture_and_its_letters_stay_large(shape: tuple[int, int], version: str) -> None:
    said = ReportedImage(Path("a"), 12, Outcome.INCONCLUSIVE, 0.41, BOXES, "classifier and detector disagree")
    marks = marks_of(said, version, warnings=(STRETCHED,))

    picture = decoded(mark_image(np.zeros(shape, np.float32), marks))

    columns = picture.shape[1]
    below = picture[decoded(mark_image(np.zeros(shape, np.float32), Marks(BOXES))).shape[0] :]
    inked = below.any(axis=(0, 2))
    assert not inked[:6].any()
    assert not inked[-6:].any()
    lines = np.diff(np.flatnonzero(np.diff(np.r_[0, below.any(axis=(1, 2)).astype(int), 0])))[::2]
    assert len(lines) >= 4
    capital = cv2.getTextSize("A", FONT, columns * HEADING * 0.8, 1)[0][1]
    assert lines.min() >= 0.7 * capital


def test_the_picture_says_what_was_found_what_the_numbers_are_and_which_model_it_was() -> None:
    said = ReportedImage(Path("a"), 1, Outcome.PRESENT, 0.934, BOXES)

    marks = marks_of(said, "2026-01-01-a-name+deadbeef")

    assert marks.heading == "Possible fracture, probability 0.93, 2 regions marked."
    assert marks.details == [
        "The number at each region is its region score, from 0 to 1",
        "model 2026-01-01-a-name+deadbeef",
    ]
    assert not marks.dashed


def test_an_image_that_is_absent_has_no_word_of_regions_and_a_further_frame_its_number() -> None:
    marks = marks_of(ReportedImage(Path("a"), 3, Outcome.ABSENT, 0.002), "1")

    assert marks.heading == "Frame 3: No fracture found by the AI, probability below 0.01, no region marked."
    assert marks.details == ["model 1"]


def test_a_stretched_image_says_so() -> None:
    said = ReportedImage(Path("a"), 1, Outcome.ABSENT, 0.1)

    assert marks_of(said, "1", warnings=("something else",)).details == ["model 1"]
    assert marks_of(said, "1", warnings=(STRETCHED,)).details[0].startswith("Contrast stretched")


@pytest.mark.parametrize("box", [Box(200, 300, 420, 460, 0.9), Box(10, 650, 30, 668, 0.9), Box(0, 100, 800, 106, 0.9)])
def test_regions_of_an_unclear_image_are_dashed_and_keep_their_corners(box: Box) -> None:
    unclear = marks_of(ReportedImage(Path("a"), 1, Outcome.INCONCLUSIVE, 0.4, (box,)), "1")
    pixels = np.zeros((700, 800), np.float32)
    outline = Marks((box,))

    dashed, whole = (decoded(mark_image(pixels, each)) for each in (replace(outline, dashed=True), outline))

    assert unclear.dashed
    assert "dashed: the image is unclear" in unclear.details[0]
    yellow, all_yellow = ((each == YELLOW).all(axis=2) for each in (dashed, whole))
    assert not (yellow & ~all_yellow).any()
    assert 0.3 < yellow[40:].sum() / all_yellow[40:].sum() < 0.95
    assert yellow_extent(dashed, 40, 800) == pytest.approx(yellow_extent(whole, 40, 800), abs=1)


def test_a_box_at_the_edge_keeps_its_score_inside_the_image() -> None:
    picture = decoded(mark_image(np.zeros((640, 640), np.float32), Marks([Box(630, 0, 640, 640, 0.77)])))
    top, _ = band_heights((640, 640), [])
    assert (picture[top + 600 :, :625] == YELLOW).all(axis=2).any()  # the score, left of the box's own outline
