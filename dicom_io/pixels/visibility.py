"""Can a person see an image as its file asks to display it? Where not, its contrast is stretched.

The model does not mind: it stretches the contrast of each image itself. People would look at a black square with boxes,
and take it for a failure. So what is analysed, marked, shown on the page and described by a presentation state is one
and the same display: the file's own, or this one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRETCHED = "the image is nearly black, white or flat as its file displays it, and its contrast was stretched"
SHARES = (0.005, 0.02, 0.98, 0.995)
"""The outer two become black and white, as in the shipped model's own preprocessing (models.preprocess)."""
DARKEST, BRIGHTEST, FLATTEST = 0.25, 0.75, 0.3
"""Display values: 98 % of the pixels below the first, above the second, or 99 % within the third. Of FracAtlas's 3,493
whole radiographs two are stretched by that."""


def stretch_range(brightness: NDArray[np.floating], counts: NDArray[np.integer]) -> tuple[float, float] | None:
    """Return the display values that shall become black and white, None where the image can be seen as it is.

    Parameters
    ----------
    brightness, counts : numpy.ndarray
        Display values 0..1, and how many pixels have each; padding is not counted.
    """
    order = np.argsort(brightness, kind="stable")
    ranked, seen = brightness[order], np.cumsum(counts[order])
    low, dark, bright, high = (float(ranked[np.searchsorted(seen, share * seen[-1])]) for share in SHARES)
    if bright >= DARKEST and dark <= BRIGHTEST and high - low >= FLATTEST:
        return None
    if low < high:
        return low, high
    present = brightness[counts > 0]
    low, high = float(present.min()), float(present.max())
    return (low, high) if low < high else None


def stretch(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.float64]:
    """Make `low` black and `high` white."""
    stretched: NDArray[np.float64] = ((np.asarray(values, dtype=np.float64) - low) / (high - low)).clip(0, 1)
    return stretched


def made_visible(pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return an image as it is to be seen, and a sentence where its contrast was stretched.

    Parameters
    ----------
    pixels : numpy.ndarray
        float32, shape (rows, columns), 0..1.
    """
    levels = np.rint(pixels.clip(0, 1) * 65535).astype(np.uint16)
    found = stretch_range(np.arange(65536) / 65535, np.bincount(levels.ravel(), minlength=65536))
    if found is None:
        return pixels, ()
    return stretch(pixels, *found).astype(np.float32), (STRETCHED,)
