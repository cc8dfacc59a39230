"""Picture files (JPEG, PNG, TIFF, WebP) as arrays, upright, for `analyze` and for training."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from models.picture_checks import CHECKS
from models.types import ImageError

MOST_PAGES = 64
WORDS_OF_MODES = {
    "CMYK": "the picture is in printing colours (CMYK); save it as grey or RGB",
    "LAB": "the picture is in L*a*b* colours; save it as grey or RGB",
    "F": "the picture holds floating point numbers, whose black and white are unknown; save it with 8 or 16 bits",
    "I": "the picture holds 32-bit or signed numbers, whose black and white are unknown; save it with 8 or 16 bits",
}
# TIFF 6.0, section 8
NEW_SUBFILE_TYPE, BITS_PER_SAMPLE, PHOTOMETRIC_INTERPRETATION = 254, 258, 262
MIN_IS_WHITE = 0
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601, as Pillow's own conversion of 8-bit colour."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused before anything is decoded."""

    maximum_pixels: int = 64_000_000
    maximum_file_bytes: int = 512_000_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a person sees it.

    Attributes
    ----------
    pixels : numpy.ndarray
        float32, shape (rows, columns), 0..1, upright.
    orientation : int
        What the file says of its stored pixels, 1 to 8 (Exif 2.32, tag 0x0112). They were turned by it; 1 is upright.
    """

    pixels: Pixels
    orientation: int = 1


def read_image(path: Path, limits: ImageLimits | None = None) -> Pixels:
    """Return the pixels of `load_picture`."""
    return load_picture(path, limits).pixels


def load_picture(path: Path, limits: ImageLimits | None = None) -> Picture:
    """Read a JPEG, PNG, TIFF or WebP file as a grey image, upright.

    1. Check the declared size against the limits, and that there is one picture of values with a known black and white.
    2. Check the file for damage (`models.picture_checks`): decoders hand on whatever they could read of it.
    3. Decode. Colour becomes luma (ITU-R BT.601); what is transparent becomes black.
    4. Turn by the orientation that the file states, as viewers do: boxes are in pixels of the upright picture.

    Raises
    ------
    ImageError
        Not such a file, larger than the limits, truncated or damaged, several pictures, or unknown black and white.

    References
    ----------
    Exif 2.32, 4.6.4 (Orientation); PNG (third edition), 11.3.2.5 (eXIf); TIFF 6.0, section 8.
    """
    limits = limits or ImageLimits()
    try:
        if path.stat().st_size > limits.maximum_file_bytes:
            raise ImageError(f"the file has more than {limits.maximum_file_bytes} bytes")
        data = path.read_bytes()
        with warnings.catch_warnings():
            # Our own limit speaks, and our own checks refuse what Pillow only warns of.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=tuple(CHECKS)) as picture:
                return _read(picture, data, limits)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        words = "not a JPEG, PNG, TIFF or WebP picture that can be read: damaged, of an absurd size or a rare kind"
        raise ImageError(words) from error
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, struct.error) as error:
        # Pillow's words for truncated and damaged files
        raise ImageError("the picture cannot be read: damaged, truncated or missing") from error


def _read(picture: Image.Image, data: bytes, limits: ImageLimits) -> Picture:
    columns, rows = picture.size
    if columns * rows > limits.maximum_pixels:
        raise ImageError(f"{columns} x {rows} pixels are more than the limit of {limits.maximum_pixels}")
    kind = "JPEG" if picture.format == "MPO" else str(picture.format)
    if (pages := _pictures_in(picture)) > 1:
        raise ImageError(f"the file holds {pages} pictures; save each of them as a file of its own")
    if picture.mode in WORDS_OF_MODES:
        raise ImageError(WORDS_OF_MODES[picture.mode])
    CHECKS[kind](data, picture)
    if kind == "TIFF":
        orientation = _orientation(picture)  # Pillow turns a TIFF itself, and then forgets how
        return Picture(_tiff_grey(picture), orientation)
    deep_colour = kind == "PNG" and data[24] == 16 and data[25] != 0  # bit depth and colour type of IHDR
    pixels = _luma(imagecodecs.png_decode(data)) if deep_colour else _grey(picture)
    orientation = _orientation(picture)
    return Picture(upright(pixels, orientation), orientation)


def _pictures_in(picture: Image.Image) -> int:
    """Count the pictures in a file, smaller copies of the first left out: an answer about one hides all others."""
    pages = int(getattr(picture, "n_frames", 1))
    if pages == 1 or pages > MOST_PAGES or picture.format not in {"MPO", "TIFF"}:
        return pages
    size, others = picture.size, 0
    for page in range(1, pages):
        picture.seek(page)
        # A phone adds previews and gain maps to its photograph (CIPA DC-007), a microscope or a scanner a thumbnail.
        others += picture.size[0] * picture.size[1] * 2 > size[0] * size[1]
    picture.seek(0)
    return 1 + others


def _orientation(picture: Image.Image) -> int:
    """Return how the stored pixels lie, 1 where the file does not say or says what the standard does not know."""
    told = picture.getexif()
    if picture.info.get("exif", b"").removeprefix(b"Exif\0\0") and not told:
        raise ImageError("the picture's EXIF data are damaged, so how it must be turned is unknown; save it anew")
    orientation = told.get(ExifTags.Base.Orientation)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels (rows, columns) so that they lie as a person sees them; orientation 1 to 8 as in Exif."""
    turned = pixels.T if orientation > 4 else pixels
    # After the transposition: which of the axes runs backwards (Exif 2.32, 4.6.4, figure 8).
    down, right = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[
        orientation
    ]
    return np.ascontiguousarray(turned[::down, ::right])


def _tiff_grey(picture: Image.Image) -> Pixels:
    tags = picture.tag_v2  # type: ignore[attr-defined]
    bits = max(tags.get(BITS_PER_SAMPLE, (1,)))
    inverted = tags.get(PHOTOMETRIC_INTERPRETATION) == MIN_IS_WHITE
    picture.load()
    if not picture.mode.startswith("I;16"):
        if bits > 8:
            raise ImageError(f"the picture is in colour with {bits} bits; save it as grey, or with 8 bits")
        return _grey(picture)
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(2**bits - 1)
    return 1 - pixels if inverted else pixels  # Pillow inverts 8 bits itself, and 16 not


def _grey(picture: Image.Image) -> Pixels:
    picture.load()
    if picture.mode.startswith("I"):  # 16-bit grey PNG; the mode is "I" or "I;16" by version of Pillow
        return np.asarray(picture, dtype=np.float32) / np.float32(65535)
    if picture.has_transparency_data:
        seen = Image.new("RGBA", picture.size, "black")
        seen.alpha_composite(picture.convert("RGBA"))
        picture = seen
    if picture.mode in {"P", "PA"}:  # a palette index is no grey value
        picture = picture.convert("RGB")
    return np.asarray(picture.convert("L"), dtype=np.float32) / np.float32(255)


def _luma(colours: NDArray[np.uint16]) -> Pixels:
    """Return the luma of 16-bit colour: Pillow would keep 8 bits, next to nothing where only the lower 12 are used."""
    pixels = colours.astype(np.float32) / np.float32(65535)
    samples = pixels.shape[-1]
    luma = pixels[..., :3] @ LUMA if samples > 2 else pixels[..., 0]
    return np.asarray(luma * pixels[..., -1] if samples in {2, 4} else luma, dtype=np.float32)
