"""The marked image: a radiograph with the boxes drawn in, between bands that say what it is.

The bands stand above and below the image, so that no text ever covers anatomy, and a small image is enlarged until
the text is readable. What is drawn is for people to look at; coordinates are read from the report.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dicom_io.types import Box

WARNING = "AI RESULT - NOT FOR DIAGNOSIS"
SMALLEST_WIDTH = 640
LARGEST_SIDE = 2048
FONT = cv2.FONT_HERSHEY_SIMPLEX
YELLOW = (0, 221, 255)
"""Colours are blue, green, red, as OpenCV takes them."""
WHITE = (255, 255, 255)
BLACK = (0, 0, 0)

Pixels = NDArray[np.float32]
Canvas = NDArray[np.uint8]


def mark_image(pixels: Pixels, boxes: Sequence[Box], lines: Sequence[str]) -> bytes:
    """Draw boxes with their scores into an image and return it as a PNG file.

    Parameters
    ----------
    pixels : numpy.ndarray
        float32, shape (rows, columns), 0..1.
    boxes : sequence of dicom_io.types.Box
        In pixels of `pixels`, origin at the top left corner of the first pixel.
    lines : sequence of str
        What stands below the image, ASCII: outcome, model version. The band above always says `WARNING`.

    Returns
    -------
    bytes
        A PNG file in colour. Its image part is `pixels` scaled by `scale_for`.
    """
    scale = scale_for(pixels.shape)
    picture = _enlarged(pixels, scale)
    for box in sorted(boxes, key=lambda each: each.score):  # the best one is drawn last, on top
        _draw_box(picture, box, scale)
    canvas = np.vstack([_band([WARNING], picture.shape[1], YELLOW), picture, _band(lines, picture.shape[1], WHITE)])
    encoded, data = cv2.imencode(".png", canvas)
    if not encoded:
        raise ValueError("OpenCV cannot write a PNG")
    return bytes(data)


def scale_for(shape: tuple[int, ...]) -> float:
    """Return the factor by which an image of (rows, columns) is shown: text readable, nothing absurdly large."""
    rows, columns = shape
    enlarge = max(1.0, SMALLEST_WIDTH / columns)
    return min(enlarge, LARGEST_SIDE / max(rows, columns))


def _enlarged(pixels: Pixels, scale: float) -> Canvas:
    rows, columns = pixels.shape
    grey = np.round(np.clip(pixels, 0.0, 1.0) * 255).astype(np.uint8)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.cvtColor(cv2.resize(grey, size, interpolation=how), cv2.COLOR_GRAY2BGR), dtype=np.uint8)


def _draw_box(picture: Canvas, box: Box, scale: float) -> None:
    """Draw the outline just around the box, black on both sides of the colour so that it shows on bone and on air."""
    x1, y1, x2, y2 = (round(value * scale) for value in (box.x1, box.y1, box.x2, box.y2))
    cv2.rectangle(picture, (x1, y1), (x2, y2), BLACK, 4)
    cv2.rectangle(picture, (x1, y1), (x2, y2), YELLOW, 2)
    text = f"{box.score:.2f}"
    (width, height), _ = cv2.getTextSize(text, FONT, 0.6, 2)
    left = min(max(x1, 0), max(picture.shape[1] - width - 2, 0))
    baseline = y1 - 6 if y1 - 6 - height > 0 else min(y2 + height + 6, picture.shape[0] - 3)
    cv2.putText(picture, text, (left, baseline), FONT, 0.6, BLACK, 4, cv2.LINE_AA)
    cv2.putText(picture, text, (left, baseline), FONT, 0.6, YELLOW, 2, cv2.LINE_AA)


def _band(lines: Sequence[str], columns: int, colour: tuple[int, int, int]) -> Canvas:
    """Write lines on black, each as large as fits, none larger than one thirtieth of the width."""
    rows = []
    for line in lines:
        (width, height), base = cv2.getTextSize(line, FONT, 1.0, 1)
        size = min(columns / 800, (columns - 16) / max(width, 1))
        row = np.zeros((max(12, round((height + base) * size) + 12), columns, 3), dtype=np.uint8)
        thickness = 2 if size > 0.9 else 1
        cv2.putText(row, line, (8, row.shape[0] - 6 - round(base * size)), FONT, size, colour, thickness, cv2.LINE_AA)
        rows.append(row)
    return np.vstack(rows) if rows else np.zeros((0, columns, 3), dtype=np.uint8)
