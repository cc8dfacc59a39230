"""The marked image: a radiograph with the boxes drawn in, between bands that say what it is.

The bands stand above and below the image, so that no text but a score ever covers anatomy. A small image is enlarged
until the text is readable, a large one made smaller, and text and lines grow with the picture. What is drawn is for
people to look at; coordinates are read from the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dicom_io.pixels.visibility import STRETCHED
from dicom_io.report.text import plain
from dicom_io.report.words import image_words
from dicom_io.types import Box, Outcome, ReportedImage

WARNING = "AI RESULT - NOT FOR DIAGNOSIS"
SMALLEST_WIDTH = 640
LARGEST_SIDE = 2048
FONT = cv2.FONT_HERSHEY_SIMPLEX
YELLOW = (0, 221, 255)
"""Colours are blue, green, red, as OpenCV takes them."""
WHITE = (255, 255, 255)
BLACK = (0, 0, 0)
TEXT_SIZE_AT = 1100
"""The longer side of a picture, in pixels, at which a score is written in OpenCV's size 1: letters 22 pixels high."""
HEAT_OPACITY = 0.45
HEADING, DETAIL = 1 / 880, 1 / 1000
"""Letters of a heading and of a detail, in OpenCV's sizes a pixel of the picture's width, or of twice its height."""
SCORES = "The number at each region is its region score, from 0 to 1"
UNCLEAR = "dashed: the image is unclear"

Pixels = NDArray[np.float32]
Canvas = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Marks:
    """What is drawn over an image and written around it.

    Attributes
    ----------
    boxes : sequence of dicom_io.types.Box
        In pixels of the image, origin at the top left corner of the first pixel.
    heading : str
        What is said of the image, ASCII; it stands below it. The band above always says `WARNING`.
    details : sequence of str
        What stands below the heading, smaller, ASCII: what the numbers mean, the model.
    dashed : bool
        Whether the boxes' outlines are dashed: regions of an image that is unclear.
    aspect : float
        Height of a pixel divided by its width.
    heat : numpy.ndarray, optional
        float32, shape of the image, 0..1: where the classifier's answer comes from.
    """

    boxes: Sequence[Box] = ()
    heading: str = ""
    details: Sequence[str] = ()
    dashed: bool = False
    aspect: float = 1.0
    heat: Pixels | None = None


def draw_marks(pixels: Pixels, marks: Marks) -> Canvas:
    """Draw boxes with their scores into an image and put the bands around it.

    Parameters
    ----------
    pixels : numpy.ndarray
        float32, shape (rows, columns), 0..1.
    marks : Marks
        What is to be seen.

    Returns
    -------
    numpy.ndarray
        uint8, shape (rows, columns, 3), blue, green, red. Its image part is `pixels` scaled by `scale_for`.
    """
    scale = scale_for(pixels.shape, marks.aspect)
    picture = _enlarged(pixels, scale)
    if marks.heat is not None:
        picture = _heated(picture, marks.heat)
    for box in sorted(marks.boxes, key=lambda each: each.score):  # the best one is drawn last, on top
        _draw_box(picture, box, scale, dashed=marks.dashed)
    columns = max(picture.shape[1], SMALLEST_WIDTH)
    # A picture much higher than wide stays at the left: the bands need their width.
    picture = np.pad(picture, ((0, 0), (0, columns - picture.shape[1]), (0, 0)))
    side = max(SMALLEST_WIDTH, min(columns, 2 * picture.shape[0]))
    above = _band([WARNING], columns, YELLOW, side * HEADING)
    heading = _band([marks.heading], columns, WHITE, side * HEADING)
    return np.vstack([above, picture, heading, _band(marks.details, columns, WHITE, side * DETAIL)])


def mark_image(pixels: Pixels, marks: Marks) -> bytes:
    """Return `draw_marks` as a PNG file in colour."""
    encoded, data = cv2.imencode(".png", draw_marks(pixels, marks))
    if not encoded:
        raise ValueError("OpenCV cannot write a PNG")
    return bytes(data)


def marks_of(image: ReportedImage, model_version: str, aspect: float = 1.0, warnings: Sequence[str] = ()) -> Marks:
    """Return what is drawn on an image and written around it: the report's words, what the numbers mean, the model.

    Parameters
    ----------
    image : dicom_io.types.ReportedImage
        What was said of it.
    aspect : float
        Height of a pixel divided by its width.
    warnings : sequence of str
        Those of its frame: one that was stretched says so.
    """
    frame = f"Frame {image.frame_number}: " if image.frame_number > 1 else ""
    unclear = image.outcome is Outcome.INCONCLUSIVE
    details = [f"model {plain(model_version)}"]
    if STRETCHED in warnings:
        details.insert(0, "Contrast stretched: as its file displays it, the image could not be seen")
    if image.boxes:
        details.insert(0, f"{SCORES}; {UNCLEAR}" if unclear else SCORES)
    return Marks(image.boxes, frame + image_words(image), details, dashed=unclear, aspect=aspect)


def scale_for(shape: tuple[int, ...], aspect: float = 1.0) -> tuple[float, float]:
    """Return the factors (along the columns, along the rows) by which an image of (rows, columns) is shown.

    Large enough for its text to be readable, nothing absurdly large, and with pixels as high and wide as they are.
    """
    rows, columns = shape[0] * max(aspect, 1.0), shape[1] * max(1 / aspect, 1.0)
    scale = min(max(1.0, SMALLEST_WIDTH / columns), LARGEST_SIDE / max(rows, columns))
    return scale * max(1 / aspect, 1.0), scale * max(aspect, 1.0)


def _enlarged(pixels: Pixels, scale: tuple[float, float]) -> Canvas:
    rows, columns = pixels.shape
    grey = np.round(np.clip(pixels, 0.0, 1.0) * 255).astype(np.uint8)
    size = max(1, round(columns * scale[0])), max(1, round(rows * scale[1]))
    how = cv2.INTER_AREA if min(scale) < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.cvtColor(cv2.resize(grey, size, interpolation=how), cv2.COLOR_GRAY2BGR), dtype=np.uint8)


def _heated(picture: Canvas, heat: Pixels) -> Canvas:
    """Lay the heat over the picture in colour, the more opaque the hotter: what is cold stays the radiograph."""
    stretched = cv2.resize(heat, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR).clip(0, 1)
    colours = cv2.applyColorMap((stretched * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    opacity = (HEAT_OPACITY * stretched)[..., None]
    return np.asarray(picture * (1 - opacity) + colours * opacity).round().astype(np.uint8)


def _draw_box(picture: Canvas, box: Box, scale: tuple[float, float], *, dashed: bool) -> None:
    """Draw the outline just around the box, black on both sides of the colour so that it shows on bone and on air."""
    x1, x2 = (round(value * scale[0]) for value in (box.x1, box.x2))
    y1, y2 = (round(value * scale[1]) for value in (box.y1, box.y2))
    size = max(0.6, min(max(picture.shape[:2]) / TEXT_SIZE_AT, picture.shape[1] / (TEXT_SIZE_AT / 8)))
    thick = max(2, round(2 * size))
    cv2.rectangle(picture, (x1, y1), (x2, y2), BLACK, thick + 2)
    if dashed:
        _draw_dashes(picture, (x1, y1, x2, y2), thick)
    else:
        cv2.rectangle(picture, (x1, y1), (x2, y2), YELLOW, thick)
    _draw_score(picture, f"{box.score:.2f}", (x1, y1, y2), size, thick)


def _draw_dashes(picture: Canvas, corners: tuple[int, int, int, int], thick: int) -> None:
    """Draw each side as dashes of one length, with one at either end, so that the corners are whole."""
    x1, y1, x2, y2 = corners
    for start, end in (((x1, y1), (x2, y1)), ((x1, y2), (x2, y2)), ((x1, y1), (x1, y2)), ((x2, y1), (x2, y2))):
        length = max(end[0] - start[0], end[1] - start[1])
        pieces = max(3, round(length / (5 * thick)) // 2 * 2 + 1)
        ends = np.linspace(start, end, pieces + 1).round().astype(int)
        for piece in range(0, pieces, 2):
            cv2.line(picture, ends[piece].tolist(), ends[piece + 1].tolist(), YELLOW, thick)


def _draw_score(picture: Canvas, text: str, place: tuple[int, int, int], size: float, thick: int) -> None:
    """Write a score on black above its box (left, top, bottom), or below it where there is no room."""
    x1, y1, y2 = place
    (width, height), base = cv2.getTextSize(text, FONT, size, thick)
    gap = thick + base + 2
    left = min(max(x1, 0), max(picture.shape[1] - width - 2, 0))
    baseline = y1 - gap if y1 - gap - height > 0 else min(y2 + height + gap, picture.shape[0] - base)
    cv2.rectangle(
        picture, (left - 2, baseline - height - 2), (left + width + 2, baseline + base - 1), BLACK, cv2.FILLED
    )
    cv2.putText(picture, text, (left, baseline), FONT, size, YELLOW, thick, cv2.LINE_AA)


def _band(lines: Sequence[str], columns: int, colour: tuple[int, int, int], size: float) -> Canvas:
    """Write lines on black, wrapped where they are longer than the picture is wide."""
    thickness = max(1, round(2 * size)) if size > 0.9 else 1
    rows = []
    for line in (part for whole in lines for part in _wrapped(whole, size, thickness, columns - 16)):
        (_, height), base = cv2.getTextSize(line, FONT, size, thickness)
        row = np.zeros((height + base + 12, columns, 3), dtype=np.uint8)
        cv2.putText(row, line, (8, row.shape[0] - 6 - base), FONT, size, colour, thickness, cv2.LINE_AA)
        rows.append(row)
    return np.vstack(rows) if rows else np.zeros((0, columns, 3), dtype=np.uint8)


def _wrapped(line: str, size: float, thickness: int, width: int) -> list[str]:
    """Break a line between words, and a word that is longer than the width where it must be."""
    parts: list[str] = []
    for word in line.split():
        if parts and _width(f"{parts[-1]} {word}", size, thickness) <= width:
            parts[-1] += f" {word}"
            continue
        fits = _width(word, size, thickness) <= width
        parts = [*parts, ""] if fits or not parts else [*parts[:-1], f"{parts[-1]} "]
        for letter in word:
            if parts[-1] and _width(parts[-1] + letter, size, thickness) > width:
                parts.append("")
            parts[-1] += letter
    return parts


def _width(text: str, size: float, thickness: int) -> int:
    return int(cv2.getTextSize(text, FONT, size, thickness)[0][0])
