"""From a stored file to frames that can be analysed: float32, 0..1, 1 = bright bone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import Decoder
from pydicom.pixels.processing import apply_color_lut

from dicom_io.errors import (
    PixelDataMissing,
    PixelModuleInvalid,
    PixelsBlank,
)
from dicom_io.header.attributes import name_of, numbers, term, words
from dicom_io.pixels.display_attributes import DisplayAttributes, Window, read_display_attributes, read_padding
from dicom_io.pixels.frame_decoding import decode_frame, has_own_precision
from dicom_io.pixels.grayscale import Rendering, Softcopy, render, softcopy
from dicom_io.pixels.identity import image_digest, values_digest
from dicom_io.pixels.image_file import parsing, read_image_file
from dicom_io.pixels.limits import MONOCHROME, PixelLayout, PixelLimits
from dicom_io.pixels.overwritten import check_overwritten
from dicom_io.pixels.padding import padding_fault
from dicom_io.pixels.stored_bits import overlay_bits, stored_values
from dicom_io.pixels.visibility import made_visible
from dicom_io.types import Frame

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
MOST_UNEQUAL = 4.0
"""The largest ratio of a pixel's sides that is believed; no detector is as far from square."""
# Rec. ITU-R BT.601: the luma that YBR_FULL's Y is, too (PS3.3 C.7.6.3.1.2)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class DisplayedFrame(Frame):
    """A frame with what a picture of it for people needs.

    `rendering` makes `pixels` of the stored values, None where the image is in colour; `lossy` says that the image once
    was compressed with loss.
    """

    rendering: Rendering | None = None
    lossy: bool = False

    @property
    def softcopy(self) -> Softcopy | None:
        """What a viewer must do to show the stored values as `pixels`, None where the image is in colour."""
        return None if self.rendering is None else softcopy(self.rendering)


def read_frames(path: Path, limits: PixelLimits | None = None) -> Iterator[DisplayedFrame]:
    """Yield the frames of an image, one at a time.

    1. Read the data set and check what it declares against the limits.
    2. For each frame: check the codestream's own size, decode, cut out the stored bits.
    3. Grey: modality, VOI or percentiles, polarity; colour: luma. Padding becomes background.

    Parameters
    ----------
    path : Path
        A DICOM Part 10 file.
    limits : PixelLimits, optional
        The most that is decoded.

    Yields
    ------
    DisplayedFrame
        Pixels float32, shape (rows, columns), 0..1, 1 = bright bone; spacing in mm where the header has it, and how
        high a pixel is for its width.

    Raises
    ------
    HeaderError
        When the file is not DICOM or cannot be parsed.
    PixelError
        The subclass says why there is no array.
    OSError
        When the file cannot be opened.

    References
    ----------
    PS3.3 C.7.6.3, C.7.5.1.1.2, C.11.1, C.11.2, C.11.6; PS3.4 N.2; PS3.5 8.
    """
    image = _open(path, limits or PixelLimits())
    for index in range(image.layout.frames):
        decoded = image.decode(index)
        yield image.frame(decoded, image.shown(decoded), index)


def read_values_digest(path: Path, limits: PixelLimits | None = None) -> str:
    """Return the identity of the stored values of all frames (`dicom_io.pixels.identity`); errors as `read_frames`."""
    image = _open(path, limits or PixelLimits())
    frames = (image.decode(index) for index in range(image.layout.frames))
    return image_digest(values_digest(decoded.array, decoded.photometric) for decoded in frames)


def read_displayed(path: Path, number: int, limits: PixelLimits | None = None) -> DisplayedFrame:
    """Read one frame, number 1 the first, and decode no other; errors as `read_frames`."""
    image = _open(path, limits or PixelLimits())
    decoded = image.decode(number - 1)
    return image.frame(decoded, image.shown(decoded), number - 1)


@dataclass(frozen=True, slots=True)
class Levels:
    """A monochrome frame before its window, so that a person can set another one.

    `values` are what the modality transformation makes of the stored values, `places` says which of them a pixel has:
    uint16, shape (rows, columns). `window` is the file's (centre, width, VOI LUT Function); where it has none, or a
    lookup table, the window that shows all values. `background` tells which values are padding.
    """

    places: NDArray[np.uint16]
    values: NDArray[np.float64]
    background: NDArray[np.bool_]
    window: tuple[float, float, str]
    inverted: bool

    def windowed(self, centre: float, width: float) -> NDArray[np.float32]:
        """Return pixels as in `Frame`, through this window; with LINEAR its width is at least 1 (PS3.3 C.11.2.1.2.1).

        Raises
        ------
        ValueError
            With a width that is not allowed.
        """
        window = Window(centre, width, self.window[2])
        if not window.is_allowed:
            raise ValueError(f"a window of the width {width} shows nothing")
        table = window.brightness(self.values)
        table = 1 - table if self.inverted else table
        table[self.background] = 0
        pixels: NDArray[np.float32] = table.astype(np.float32)[self.places]
        return pixels


def read_levels(path: Path, number: int, limits: PixelLimits | None = None) -> Levels:
    """Read a monochrome frame, number 1 the first, before its window; errors as `read_frames`."""
    image = _open(path, limits or PixelLimits())
    decoded = image.decode(number - 1)
    shown = image.shown(decoded)
    if shown is None:
        raise PixelModuleInvalid("an image in colour has no window")
    rendering = shown.rendering
    places = (decoded.array - rendering.stored[0]).astype(np.uint16)
    window = (rendering.window.centre, rendering.window.width, rendering.window.function)
    return Levels(places, rendering.values, shown.background, window, rendering.inverted)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A frame's stored values, int32, and what was mended in them."""

    array: NDArray[np.int32]
    photometric: str
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Shown:
    """How a monochrome frame is shown; `background` tells which of `rendering.stored` are padding."""

    rendering: Rendering
    background: NDArray[np.bool_]
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Opened:
    ds: Dataset
    layout: PixelLayout
    decoder: Decoder
    overlays: tuple[int, ...]
    spacing_mm: tuple[float, float] | None

    def decode(self, index: int) -> _Decoded:
        """Decode a frame; nothing of its display is looked at."""
        if not 0 <= index < self.layout.frames:
            raise PixelDataMissing(f"there is no frame {index + 1} in an image of {self.layout.frames}")
        with parsing():
            samples, photometric = decode_frame(self.decoder, self.ds, self.layout, index)
            grey = self.layout.photometric in MONOCHROME
            array, told = stored_values(
                samples,
                self.layout,
                aligned=has_own_precision(self.decoder.UID),
                overlays=self.overlays,
                padding=read_padding(self.ds, [], signed=self.layout.signed) if grey else None,
            )
        if photometric in MONOCHROME:
            check_overwritten(array)
        return _Decoded(array, photometric, told)

    def shown(self, decoded: _Decoded) -> _Shown | None:
        """Return how a frame is shown, None for one in colour."""
        if decoded.photometric not in MONOCHROME:
            return None
        with parsing():
            display = read_display_attributes(self.ds, self.layout)
            stored, counts = _counted(decoded.array)
            background, fault = _background(display, decoded.array, stored, counts)
            rendering = render(display, stored, np.where(background, 0, counts))
            return _Shown(rendering, background, (*fault, *rendering.left_aside))

    def frame(self, decoded: _Decoded, shown: _Shown | None, index: int) -> DisplayedFrame:
        """Return a frame as it is analysed."""
        with parsing():
            if shown is None:
                pixels, told = made_visible(_luma_of(self.ds, self.layout, decoded))
            else:
                table = np.where(shown.background, np.float32(0), shown.rendering.brightness)
                pixels, told = table[decoded.array - shown.rendering.stored[0]], shown.told
            aspect = _pixel_aspect(self.ds, self.spacing_mm)
        if pixels.min() == pixels.max():
            raise PixelsBlank(f"every pixel of frame {index + 1} has the same value")
        digest = values_digest(decoded.array, decoded.photometric)
        return DisplayedFrame(
            number=index + 1,
            pixels=pixels,
            spacing_mm=self.spacing_mm,
            aspect=aspect,
            warnings=(*decoded.told, *told),
            values_digest=digest,
            rendering=None if shown is None else shown.rendering,
            lossy=term(self.ds, "LossyImageCompression") == "01",
        )


def _open(path: Path, limits: PixelLimits) -> _Opened:
    image = read_image_file(path, limits)
    with parsing():
        return _Opened(
            image.ds, image.layout, image.decoder, overlay_bits(image.ds, image.layout), _spacing_mm(image.ds)
        )


def _luma_of(ds: Dataset, layout: PixelLayout, decoded: _Decoded) -> NDArray[np.float32]:
    """Return the brightness of a frame in colour."""
    array, photometric = decoded.array, decoded.photometric
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(array, _with_signed_palettes(ds, layout))
        largest = np.iinfo(colours.dtype).max
        return _luma(colours[..., :3], largest)
    largest = 2**layout.bits_stored - 1
    if photometric.startswith("YBR"):
        luma: NDArray[np.float32] = array[..., 0].astype(np.float32) / np.float32(largest)
        return luma.clip(0, 1)
    return _luma(array, largest)


def _with_signed_palettes(ds: Dataset, layout: PixelLayout) -> Dataset:
    """Give the palettes' first values the sign of the pixels (PS3.3 C.7.6.3.1.5), whatever their own VR."""
    for colour in ("Red", "Green", "Blue"):
        keyword = f"{colour}PaletteColorLookupTableDescriptor"
        found = words(ds, keyword, signed=False), words(ds, keyword, signed=layout.signed)
        if len(found[0]) != 3 or None in found[0]:
            raise PixelModuleInvalid(f"{name_of(keyword)} is missing or has not three numbers")
        data = f"{colour}PaletteColorLookupTableData"
        if data not in ds and f"Segmented{data}" not in ds:
            raise PixelModuleInvalid(f"{name_of(data)} is missing")
        ds[keyword] = DataElement(keyword, "SS" if layout.signed else "US", [found[0][0], found[1][1], found[0][2]])
    return ds


def _counted(array: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the stored values from the smallest to the largest, and how many pixels have each."""
    lowest = int(array.min())
    stored = np.arange(lowest, int(array.max()) + 1, dtype=np.int32)
    return stored, np.bincount((array - lowest).ravel(), minlength=len(stored))


def _background(
    display: DisplayAttributes, array: NDArray[np.int32], stored: NDArray[np.int32], counts: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Tell which stored values are padding, and why the padding value was left aside, if it was."""
    nothing = np.zeros(stored.shape, dtype=np.bool_)
    if display.padding is None:
        return nothing, ()
    fault = padding_fault(array, display.padding, stored, counts)
    if fault is not None:
        return nothing, (f"Pixel Padding Value {fault} and was left aside",)
    return (stored >= display.padding[0]) & (stored <= display.padding[1]), ()


def _luma(colours: NDArray[np.integer], largest: int) -> NDArray[np.float32]:
    luma: NDArray[np.float32] = colours.astype(np.float32) @ _LUMA / np.float32(largest)
    return luma.clip(0, 1)


def _spacing_mm(ds: Dataset) -> tuple[float, float] | None:
    """Return the distance of pixels (between rows, between columns) in mm.

    PixelSpacing goes first: where it differs from ImagerPixelSpacing it was corrected for magnification or calibrated
    (PS3.3 10.7.1.3). A digitised film has NominalScannedPixelSpacing.
    """
    for keyword in _SPACINGS:
        spacing = numbers(ds, keyword)
        if len(spacing) == 2 and all(value is not None and value > 0 for value in spacing):
            return float(spacing[0] or 0), float(spacing[1] or 0)
    return None


def _pixel_aspect(ds: Dataset, spacing_mm: tuple[float, float] | None) -> float:
    """Return the height of a pixel divided by its width; where nothing usable says so, pixels are square."""
    sides = numbers(ds, "PixelAspectRatio") if spacing_mm is None else spacing_mm
    if len(sides) != 2 or not sides[0] or not sides[1]:
        return 1.0
    ratio = sides[0] / sides[1]
    return ratio if 1 / MOST_UNEQUAL <= ratio <= MOST_UNEQUAL else 1.0
