"""Changes of a radiograph that leave its diagnosis as it is, with the boxes carried along.

Where it lies (`place`): rotation, zoom, flips, crops. How it looks (`develop`): what another site's machines, viewers
and archives would have made of the same bone. Everything is drawn from the generator that is given, nothing else.

References
----------
Kumar and Singhal, "Bone Fracture Detection Using Deep Learning-Based Medical Image Analysis": rotation, flipping,
zooming, brightness and contrast.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Matrix = NDArray[np.float64]
# A box that loses more than this share of its area at the border no longer shows its fracture.
SMALLEST_SHARE_KEPT = 0.5
# A pasted fracture brings so much of what is around it, in half sides of its box, and fades out over so much.
GROWN = 1.35
FEATHER = 0.25
# More than this and what is pasted onto black, or onto a marker, is no longer seen.
MOST_SHIFT = 0.25


@dataclass(frozen=True, slots=True)
class Geometry:
    """How far an image may be moved: degrees, zoom (a factor and its inverse), shares of the images flipped."""

    degrees: float = 20.0
    zoom: float = 1.35
    mirrored: float = 0.5
    upside_down: float = 0.15

    def draw(
        self,
        random: np.random.Generator,
        centre_xy: tuple[float, float],
        size: tuple[int, int],
        enlargement: float = 1.0,
    ) -> Matrix:
        """Draw the map (2, 3) that brings `centre_xy` of the image to the middle of a canvas of (rows, columns).

        Coordinates are corners: (0, 0) is the top left corner of the first pixel. The zoom comes on top of the
        `enlargement`.
        """
        angle = np.deg2rad(random.uniform(-self.degrees, self.degrees))
        scale = enlargement * np.exp(random.uniform(-np.log(self.zoom), np.log(self.zoom)))
        turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        turn[0] *= -1 if random.random() < self.mirrored else 1
        turn[1] *= -1 if random.random() < self.upside_down else 1
        middle = np.array([size[1], size[0]]) / 2
        return np.column_stack([turn, middle - turn @ np.array(centre_xy)])


def place(
    pixels: FloatArray, boxes_xyxy: FloatArray, matrix: Matrix, size: tuple[int, int]
) -> tuple[FloatArray, FloatArray]:
    """Draw an image on a canvas of (rows, columns) through a map of corners, black outside.

    A box becomes the smallest upright box around its turned corners, clipped to the canvas; one that loses more than
    half of its area at the border is dropped.
    """
    # The matrix speaks of corners; warpAffine of pixel centres, half a pixel further in.
    centres = matrix.copy()
    centres[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    warped = cv2.warpAffine(pixels, centres, size[::-1], flags=cv2.INTER_LINEAR)
    return np.asarray(warped, dtype=np.float32), carry(boxes_xyxy, matrix, size)


def carry(boxes_xyxy: FloatArray, matrix: Matrix, size: tuple[int, int]) -> FloatArray:
    """Move boxes (n, 4) with their image."""
    kept = []
    for x1, y1, x2, y2 in boxes_xyxy:
        corners = np.array([[x1, y1, 1], [x2, y1, 1], [x2, y2, 1], [x1, y2, 1]]) @ matrix.T
        whole = _shrunk(np.concatenate([corners.min(axis=0), corners.max(axis=0)]), (x1, y1, x2, y2), matrix)
        clipped = np.clip(whole, 0, [size[1], size[0]] * 2)
        if _area(clipped) > SMALLEST_SHARE_KEPT * _area(whole):
            kept.append(clipped)
    return np.array(kept, dtype=np.float32).reshape(-1, 4)


def _shrunk(around: Matrix, box: tuple[float, float, float, float], matrix: Matrix) -> Matrix:
    """Take back half of what the corners of a turned box add: a fracture fills its box's middle, not its corners."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    straight = scale * np.array([box[2] - box[0], box[3] - box[1]])
    excess = np.clip(around[2:] - around[:2] - straight, 0, None) / 4
    return np.concatenate([around[:2] + excess, around[2:] - excess])


def _area(box: Matrix) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def paste(ground: FloatArray, pixels: FloatArray, boxes_xyxy: FloatArray) -> FloatArray:
    """Blend what lies in the boxes (n, 4) of one image into another of the same shape, at the same places.

    The edge is feathered beyond the box and the grey level follows the ground's, so that neither tells a pasted
    fracture from a grown one.

    References
    ----------
    G. Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021.
    """
    pasted = ground
    for x1, y1, x2, y2 in boxes_xyxy.tolist():
        centre, half = ((x1 + x2) / 2, (y1 + y2) / 2), ((x2 - x1) / 2, (y2 - y1) / 2)
        axes = tuple(max(1, round(length * GROWN)) for length in half)
        mask = np.zeros(ground.shape, dtype=np.float32)
        cv2.ellipse(mask, (round(centre[0]), round(centre[1])), axes, 0, 0, 360, 1.0, cv2.FILLED)
        soft = cv2.GaussianBlur(mask, (0, 0), max(1.0, FEATHER * min(half)))
        level = float(np.average(pasted, weights=soft) - np.average(pixels, weights=soft)) if soft.any() else 0.0
        level = min(max(level, -MOST_SHIFT), MOST_SHIFT)
        pasted = pasted + soft * (pixels + np.float32(level) - pasted)
    return np.asarray(np.clip(pasted, 0, 1), dtype=np.float32)


def develop(pixels: FloatArray, random: np.random.Generator) -> FloatArray:
    """Change how a radiograph in 0..1 looks; each change comes by its own chance, so most images keep most."""
    for chance, change in CHANGES:
        if random.random() < chance:
            pixels = change(pixels, random)
    return np.asarray(np.clip(pixels, 0, 1), dtype=np.float32)


def window(pixels: FloatArray, random: np.random.Generator) -> FloatArray:
    """Window it anew: both ends of the grey scale move by up to a tenth, brightness and contrast with them."""
    low, high = random.uniform(-0.1, 0.1), 1 + random.uniform(-0.1, 0.1)
    return np.asarray(np.clip((pixels - np.float32(low)) / np.float32(high - low), 0, 1), dtype=np.float32)


def gamma(pixels: FloatArray, random: np.random.Generator) -> FloatArray:
    """Bend the grey scale, as look-up tables of makers do."""
    return np.power(np.clip(pixels, 0, 1), np.float32(np.exp(random.uniform(-0.45, 0.45))))


def contrast(pixels: FloatArray, random: np.random.Generator) -> FloatArray:
    """Scale about the mean and shift."""
    mean, factor, shift = pixels.mean(), random.uniform(0.7, 1.3), random.uniform(-0.08, 0.08)
    return np.asarray(mean + (pixels - mean) * factor + shift, dtype=np.float32)


def noise(pixels: FloatArray, random: np.random.Generator) -> FloatArray:
    """Add grain of up to six per cent, as of a low dose."""
    grain = random.standard_normal(pixels.shape, dtype=np.float32)
    return pixels + np.float32(random.uniform(0.005, 0.06)) * grain


def blur(pixels: FloatArray, random: np.random.Generator) -> FloatArray:
    """Soften, as a coarse detector or a scaled picture does."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(random.uniform(0.4, 1.3))), dtype=np.float32)


def coarsen(pixels: FloatArray, random: np.random.Generator) -> FloatArray:
    """Halve the resolution and bring it back."""
    rows, columns = pixels.shape
    factor = random.uniform(0.45, 0.8)
    small = cv2.resize(
        pixels, (max(1, int(columns * factor)), max(1, int(rows * factor))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def compress(pixels: FloatArray, random: np.random.Generator) -> FloatArray:
    """Pass through a JPEG file of quality 20 to 90."""
    grey = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    _, code = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(20, 91))])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), dtype=np.float32) / np.float32(255)


def collimate(pixels: FloatArray, random: np.random.Generator) -> FloatArray:
    """Blacken a border of up to a tenth on each side, as the shutters of the tube do."""
    rows, columns = pixels.shape
    top, bottom = (random.uniform(0, 0.1, 2) * rows).astype(int)
    left, right = (random.uniform(0, 0.1, 2) * columns).astype(int)
    framed = np.zeros_like(pixels)
    framed[top : rows - bottom, left : columns - right] = pixels[top : rows - bottom, left : columns - right]
    return framed


def invert(pixels: FloatArray, _random: np.random.Generator) -> FloatArray:
    """Turn black to white: a file whose photometric interpretation is wrong."""
    return 1 - pixels


# In the order in which they happen: tube, detector, processing, archive.
CHANGES = (
    (0.15, collimate),
    (0.15, blur),
    (0.15, coarsen),
    (0.45, noise),
    (0.4, window),
    (0.4, gamma),
    (0.4, contrast),
    (0.08, invert),
    (0.3, compress),
)
