"""Picture files (PNG, JPEG) as arrays, for `analyze` and for training."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from models.types import ImageError


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused before anything is decoded."""

    maximum_pixels: int = 64_000_000
    maximum_file_bytes: int = 512_000_000


def read_image(path: Path, limits: ImageLimits | None = None) -> NDArray[np.float32]:
    """Read a PNG or JPEG file as a grey image.

    Colour becomes luma (ITU-R 601). An EXIF orientation is *not* applied: boxes are in pixels of the file as stored,
    and every reader of the answer can rely on that.

    Returns
    -------
    numpy.ndarray
        float32, shape (rows, columns), 0..1.

    Raises
    ------
    ImageError
        Not a readable PNG or JPEG, larger than the limits, truncated or damaged.
    """
    limits = limits or ImageLimits()
    try:
        if path.stat().st_size > limits.maximum_file_bytes:
            raise ImageError(f"the file has more than {limits.maximum_file_bytes} bytes")
        with warnings.catch_warnings():
            # Our own limit speaks; Pillow's warning about large pictures would only double it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                _check_size(picture, limits)
                return _grey(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ImageError("not a PNG or JPEG picture, or one of an absurd size") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for truncated and damaged files
        raise ImageError("the picture cannot be read: damaged, truncated or missing") from error


def _check_size(picture: Image.Image, limits: ImageLimits) -> None:
    columns, rows = picture.size
    if columns * rows > limits.maximum_pixels:
        raise ImageError(f"{columns} x {rows} pixels are more than the limit of {limits.maximum_pixels}")


def _grey(picture: Image.Image) -> NDArray[np.float32]:
    if picture.mode.startswith("I"):  # 16-bit grey PNG; the mode is "I" or "I;16" by version of Pillow
        return np.asarray(np.asarray(picture, dtype=np.float32) / np.float32(65535), dtype=np.float32)
    if picture.mode in {"P", "PA"}:  # a palette index is no grey value
        picture = picture.convert("RGB")
    return np.asarray(np.asarray(picture.convert("L"), dtype=np.float32) / np.float32(255), dtype=np.float32)
