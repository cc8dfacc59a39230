"""The identity of an image's pixels: a digest of its stored values, whichever way they are encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def values_digest(values: NDArray[np.int32], photometric: str) -> str:
    """Return the identity of one frame's stored values.

    Parameters
    ----------
    values : numpy.ndarray
        int32, shape (rows, columns) or (rows, columns, samples), as `decode_frame` gives them.
    photometric : str
        What the samples mean once decoded; it counts for colour only, where decoders may have turned YBR into RGB.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
    narrow = values.astype("<u2" if lowest >= 0 and highest < 1 << 16 else "<i4")
    colour = photometric if values.ndim == 3 else "grey"
    digest = hashlib.sha256(f"{narrow.dtype.str} {narrow.shape} {colour}\n".encode())
    digest.update(np.ascontiguousarray(narrow).data)
    return digest.hexdigest()


def image_digest(frames: Iterable[str]) -> str:
    """Return the identity of an image from those of all its frames, in order."""
    return hashlib.sha256("\n".join(frames).encode("ascii")).hexdigest()
