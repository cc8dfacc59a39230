"""Small changes of a radiograph that leave its diagnosis as it is, with the boxes carried along."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


def flip(pixels: FloatArray, boxes_xyxy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mirror left and right: a left hand becomes a right one."""
    columns = pixels.shape[1]
    mirrored = boxes_xyxy.copy()
    mirrored[:, [0, 2]] = columns - boxes_xyxy[:, [2, 0]]
    return np.ascontiguousarray(pixels[:, ::-1]), mirrored


def jitter(pixels: FloatArray, boxes_xyxy: FloatArray, random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Turn up to 10 degrees, zoom 0.85 to 1.2, shift up to 4 %, change gamma; same size, black outside.

    A box becomes the smallest upright box around its turned corners, clipped to the image; one that loses more than
    half of its area at the border is dropped.
    """
    rows, columns = pixels.shape
    matrix = cv2.getRotationMatrix2D(
        (columns / 2, rows / 2), float(random.uniform(-10, 10)), float(random.uniform(0.85, 1.2))
    )
    matrix[:, 2] += random.uniform(-0.04, 0.04, 2) * (columns, rows)
    # The matrix speaks of corners; warpAffine of pixel centres, half a pixel further in.
    centres = matrix.copy()
    centres[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    warped = cv2.warpAffine(pixels, centres, (columns, rows), flags=cv2.INTER_LINEAR)
    gamma = np.float32(np.exp(random.uniform(-0.3, 0.3)))
    return np.power(np.clip(warped, 0, 1), gamma).astype(np.float32), _carry(boxes_xyxy, matrix, (columns, rows))


def _carry(boxes_xyxy: FloatArray, matrix: NDArray[np.float64], size: tuple[int, int]) -> FloatArray:
    kept = []
    for x1, y1, x2, y2 in boxes_xyxy:
        corners = np.array([[x1, y1, 1], [x2, y1, 1], [x2, y2, 1], [x1, y2, 1]]) @ matrix.T
        whole = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
        clipped = np.clip(whole, 0, [*size, *size])
        if _area(clipped) > 0.5 * _area(whole):
            kept.append(clipped)
    return np.array(kept, dtype=np.float32).reshape(-1, 4)


def _area(box: NDArray[np.float64]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
