"""Pixels that were overwritten or filled up: the data say nothing of it any more, so what is left is how it looks.

A file system or a broken transfer leaves zeros, another constant or foreign bytes in place of a stretch of the data,
from the middle of one row to the middle of another. A radiograph has stretches of one value too (collimation, shutter,
padding, annotations), but their edges go on from row to row, and no part of a body is as rough as foreign bytes.

A JPEG decoder that reads zeros in place of lost data makes the same patterned block of them again and again. Written
once more, such an image is a sound JPEG; FracAtlas has eight of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_io.errors import PixelDataDamaged

_LEAST_ROWS = 2
"""A run of one value over fewer rows is not looked at."""
_LEAST_EDGE = 24
_MOST_NEW = 0.5
"""The share of the row above a run's first row (below its last) that may lack its value; sound images had 0.33."""
_ROUGH = 0.25
"""The mean step from pixel to pixel in a row, of the frame's range: foreign bytes have 0.33, sound images 0.19."""
_MOST_ROUGH_ROWS = 0.01
_LEAST_SIDE = 160
"""Smaller frames are no radiographs; what was measured of sound ones says nothing of them."""
_BLOCK = 8
_MOST_REPEATED = 0.5
"""The share of a row of blocks that may repeat the blocks beside and above; sound images had 0.29, filled ones 0.75."""


def check_overwritten(values: NDArray[Any]) -> None:
    """Check a monochrome frame or picture, shape (rows, columns), in the order in which its pixels are stored.

    Raises
    ------
    PixelDataDamaged
        When a stretch of them is one value or noise that no radiograph has.
    """
    if min(values.shape) < _LEAST_SIDE:
        return
    for begin, end in _long_runs(values):
        if _is_new(values, *begin, before=True) or _is_new(values, *end, before=False):
            raise PixelDataDamaged("the pixel data is damaged: a stretch from the middle of a row on has one value")
    if _rough_rows(values) > max(1, _MOST_ROUGH_ROWS * len(values)):
        raise PixelDataDamaged("the pixel data is damaged: rows of it are noise")
    if repeats_blocks(values):
        raise PixelDataDamaged("the pixel data is damaged: one pattern is repeated where the image should go on")


def repeats_blocks(values: NDArray[Any]) -> bool:
    """Tell whether a row of blocks as JPEG has them is filled with one pattern, which is not one grey value.

    Parameters
    ----------
    values : numpy.ndarray
        Shape (rows, columns), as decoded: the blocks begin at the first pixel (ISO/IEC 10918-1 A.2.4).
    """
    if min(values.shape) < _LEAST_SIDE:
        return False
    down, across = (side // _BLOCK for side in values.shape)
    blocks = values[: down * _BLOCK, : across * _BLOCK].reshape(down, _BLOCK, across, _BLOCK).swapaxes(1, 2)
    inner = blocks[1:, 1:]
    repeated = (inner == blocks[1:, :-1]).all(axis=(2, 3)) & (inner == blocks[:-1, 1:]).all(axis=(2, 3))
    patterned = inner.min(axis=(2, 3)) < inner.max(axis=(2, 3))
    return bool((repeated & patterned).mean(axis=1).max() > _MOST_REPEATED)


def _long_runs(values: NDArray[Any]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return (row, column) where each run of one value over rows begins, and where the next value stands."""
    flat = values.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [len(flat)]])
    columns = values.shape[1]
    long = np.flatnonzero(np.diff(edges) >= _LEAST_ROWS * columns)
    return [(divmod(int(edges[n]), columns), divmod(int(edges[n + 1]), columns)) for n in long]


def _is_new(values: NDArray[Any], row: int, column: int, *, before: bool) -> bool:
    """Tell whether a run begins (or ends) where the row above (or below) does not have its value already."""
    rows, columns = values.shape
    if before:
        if not row or columns - column < _LEAST_EDGE or not column:
            return False
        beside, value = values[row - 1, column:], values[row, column]
    else:
        if row + 1 >= rows or column < _LEAST_EDGE:
            return False
        beside, value = values[row + 1, :column], values[row, column - 1]
    return bool((beside != value).mean() > _MOST_NEW)


def _rough_rows(values: NDArray[Any]) -> int:
    """Return how many rows go up and down from pixel to pixel as only noise does."""
    low, high = np.percentile(values.ravel()[:: max(1, values.size // 100_000)], [0.1, 99.9])
    if high <= low:
        return 0
    steps = np.abs(np.diff(values, axis=1)).mean(axis=1)
    return int((steps > _ROUGH * (high - low)).sum())
