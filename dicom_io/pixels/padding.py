"""Which pixels are padding, and whether that can be believed (PS3.3 C.7.5.1.1.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# At least this share of padding lies between two others of its kind; of anatomy that has the value by chance, less.
SMALLEST_SHARE_IN_AREAS = 0.5
# What is left beside the padding must be this much of the frame to be the picture.
SMALLEST_PICTURE = 0.01
# A range of padding values that holds more than this share of the shades of the frame holds the picture.
MOST_SHADES = 0.1


def padding_fault(
    array: NDArray[np.int32], padding: tuple[int, int], stored: NDArray[np.int32], counts: NDArray[np.int64]
) -> str | None:
    """Say why values from `padding[0]` to `padding[1]` cannot be padding in this frame, None where they can.

    Padding fills areas, reaches the edge of the frame and leaves a picture. Values that anatomy has do not, and what is
    taken for padding becomes black: it could be the fracture.

    Parameters
    ----------
    array : numpy.ndarray
        int32, shape (rows, columns): the stored values.
    stored, counts : numpy.ndarray
        All stored values one by one, and how many pixels have each.
    """
    within = (stored >= padding[0]) & (stored <= padding[1])
    count = int(counts[within].sum())
    if not count:
        return None
    rest = counts[~within]
    if rest.sum() < SMALLEST_PICTURE * array.size or np.count_nonzero(rest) < 2:
        return "leaves no picture"
    shades = np.count_nonzero(counts[within])
    if shades > 1 and shades > MOST_SHADES * np.count_nonzero(counts):
        return "holds the shades of the picture"
    padded = (array >= padding[0]) & (array <= padding[1])
    if not (padded[0].any() or padded[-1].any() or padded[:, 0].any() or padded[:, -1].any()):
        return "lies within the picture"
    if max(_share_in_runs(padded, count), _share_in_runs(padded.T, count)) < SMALLEST_SHARE_IN_AREAS:
        return "is scattered over the picture"
    return None


def _share_in_runs(padded: NDArray[np.bool_], count: int) -> float:
    """Return the share of these pixels that have one of their kind on either side of them in their row.

    Beyond the edge of the frame there is only padding.
    """
    beside = np.pad(padded, ((0, 0), (1, 1)), constant_values=True)
    return float((padded & beside[:, :-2] & beside[:, 2:]).sum() / count)
