"""From a radiograph to the network's input, and boxes back to the radiograph.

Coordinates are continuous: x along the columns, y along the rows, (0, 0) the top left corner of the first pixel. A
resize maps the image's rectangle onto the resized rectangle, so a corner at (columns, rows) lands exactly on
(width, height); `cv2.resize` samples at pixel centres, which is the same map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]

# The networks' deepest stride: 32 in MobileNetV2 and EfficientNet-Lite2, 16 in VGG16.
CANVAS_MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How a trunk wants each of its three channels: minus `mean`, by `std`; a grey image is repeated three times."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# The statistics of ImageNet (RGB), by which torchvision's networks were trained.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a bundle wants its images.

    `longest_side` is the length of the longer side after resizing, in pixels; `denoise` names the noise reduction
    and `denoise_size` its neighbourhood (pixels of the resized image); `stretch_percentiles` are the grey values that
    become 0 and 1.
    """

    longest_side: int
    denoise: Literal["none", "median", "bilateral"] = "bilateral"
    denoise_size: int = 5
    stretch_percentiles: tuple[float, float] = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an image lies on the network's canvas: its top left corner at the canvas's, padding right and below."""

    source_rows: int
    source_columns: int
    rows: int
    columns: int
    canvas_rows: int
    canvas_columns: int

    def to_canvas(self, boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
        """Map boxes (n, 4) from pixels of the source image to pixels of the canvas, without clipping."""
        return np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4) * self._scale()

    def to_source(self, boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
        """Map boxes (n, 4) from pixels of the canvas to pixels of the source image, clipped to the image."""
        boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4) / self._scale()
        limit = np.array([self.source_columns, self.source_rows] * 2, dtype=np.float64)
        return np.asarray(np.clip(boxes, 0.0, limit))

    def _scale(self) -> NDArray[np.float64]:
        return np.array([self.columns / self.source_columns, self.rows / self.source_rows] * 2, dtype=np.float64)


def fit(rows: int, columns: int, longest_side: int) -> Letterbox:
    """Place an image of (rows, columns) on the smallest canvas whose sides are multiples of 32.

    The canvas follows the image's shape instead of being a square: a fifth of the work is saved on the usual
    portrait radiograph, and nothing is distorted.
    """
    scale = longest_side / max(rows, columns)
    resized = [max(1, round(side * scale)) for side in (rows, columns)]
    canvas = [-(-side // CANVAS_MULTIPLE) * CANVAS_MULTIPLE for side in resized]
    return Letterbox(rows, columns, resized[0], resized[1], canvas[0], canvas[1])


def prepare(pixels: FloatArray, preprocessing: Preprocessing) -> tuple[FloatArray, Letterbox]:
    """Resize, reduce noise, stretch the grey values and pad with black.

    Noise is reduced after resizing, so that its neighbourhood means the same for a detector of 3000 rows and for a
    picture of 450, and a fine fracture line of a small picture is not wiped out.

    Parameters
    ----------
    pixels
        float32, shape (rows, columns), 0..1, 1 = bright bone.
    preprocessing
        The bundle's wishes.

    Returns
    -------
    canvas
        float32, shape (canvas rows, canvas columns), 0..1.
    letterbox
        The map between the image's and the canvas's coordinates.
    """
    letterbox = fit(pixels.shape[0], pixels.shape[1], preprocessing.longest_side)
    shrinks = letterbox.rows <= pixels.shape[0] and letterbox.columns <= pixels.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, (letterbox.columns, letterbox.rows), interpolation=interpolation)
    stretched = stretch(resized, preprocessing.stretch_percentiles)
    quiet = reduce_noise(stretched, preprocessing)
    canvas = np.zeros((letterbox.canvas_rows, letterbox.canvas_columns), dtype=np.float32)
    canvas[: letterbox.rows, : letterbox.columns] = quiet
    return canvas, letterbox


def stretch(pixels: FloatArray, percentiles: tuple[float, float]) -> FloatArray:
    """Map the grey values at two percentiles to 0 and 1 and clip: the answer shall not hang on the window's choice."""
    low, high = np.percentile(pixels, percentiles)
    if high - low < 1e-6:  # one grey value only: there is nothing to stretch
        return np.zeros_like(pixels)
    return np.asarray(np.clip((pixels - low) / (high - low), 0.0, 1.0), dtype=np.float32)


def reduce_noise(pixels: FloatArray, preprocessing: Preprocessing) -> FloatArray:
    """Apply the bundle's noise reduction to a float32 image in 0..1."""
    if preprocessing.denoise == "median":
        return np.asarray(cv2.medianBlur(pixels, preprocessing.denoise_size), dtype=np.float32)
    if preprocessing.denoise == "bilateral":
        # A tenth of the grey scale: quantum noise lies below it, a cortical edge above.
        filtered = cv2.bilateralFilter(pixels, preprocessing.denoise_size, sigmaColor=0.1, sigmaSpace=1.5)
        return np.asarray(filtered, dtype=np.float32)
    return pixels


def normalise(canvas: FloatArray, normalisation: Normalisation) -> FloatArray:
    """Repeat a grey canvas (rows, columns) to (3, rows, columns), standardised as the trunk was trained."""
    mean = np.array(normalisation.mean, dtype=np.float32)[:, None, None]
    std = np.array(normalisation.std, dtype=np.float32)[:, None, None]
    return np.asarray((canvas[None] - mean) / std, dtype=np.float32)
