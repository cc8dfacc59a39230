"""From a stored file to frames that can be analysed: float32, 0..1, 1 = bright bone."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import Decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_io.errors import HeaderError, PixelDataMissing, PixelsBlank, PixelsTooLarge
from dicom_io.frame_decoding import MALFORMED, decode_frame, find_decoder
from dicom_io.grayscale import (
    Softcopy,
    brightness_table,
    is_inverted,
    modality_values,
    padding_mask,
    softcopy,
    window_brightness,
)
from dicom_io.header import inflate, read_file_meta
from dicom_io.pixel_limits import MONOCHROME, PixelLayout, PixelLimits, check_native_length, read_layout
from dicom_io.types import Frame

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
MOST_UNEQUAL = 4.0
"""The largest ratio of a pixel's sides that is believed; no detector is as far from square."""
# Rec. ITU-R BT.601: the luma that YBR_FULL's Y is, too (PS3.3 C.7.6.3.1.2)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def read_frames(path: Path, limits: PixelLimits | None = None) -> Iterator[Frame]:
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
    Frame
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
        yield image.frame(*image.decode(index), index)


def read_displayed(path: Path, number: int, limits: PixelLimits | None = None) -> DisplayedFrame:
    """Read one frame, number 1 the first, with what a picture of it for people needs; errors as `read_frames`."""
    image = _open(path, limits or PixelLimits())
    if not 1 <= number <= image.layout.frames:
        raise PixelDataMissing(f"there is no frame {number} in an image of {image.layout.frames}")
    array, photometric = image.decode(number - 1)
    frame = image.frame(array, photometric, number - 1)
    with _parsing():
        transformations = softcopy(image.ds, *_counted(image.ds, array)) if photometric in MONOCHROME else None
        lossy = str(image.ds.get("LossyImageCompression") or "") == "01"
        return DisplayedFrame(frame, transformations, lossy)


@dataclass(frozen=True, slots=True)
class DisplayedFrame:
    """A frame and how it is shown.

    `softcopy` makes `frame.pixels` of the stored values, None where the image is in colour; `lossy` says that the image
    once was compressed with loss.
    """

    frame: Frame
    softcopy: Softcopy | None
    lossy: bool


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
        table = window_brightness(self.values, centre, width, self.window[2])
        if table is None:
            raise ValueError(f"a window of the width {width} shows nothing")
        table = 1 - table if self.inverted else table
        table[self.background] = 0
        pixels: NDArray[np.float32] = table.astype(np.float32)[self.places]
        return pixels


def read_levels(path: Path, number: int, limits: PixelLimits | None = None) -> Levels:
    """Read a monochrome frame, number 1 the first, before its window; errors as `read_frames`."""
    image = _open(path, limits or PixelLimits())
    array, _ = image.decode(number - 1)
    with _parsing():
        stored, counts = _counted(image.ds, array)
        values, shown = modality_values(image.ds, stored), softcopy(image.ds, stored, counts)
        low, high = float(values[counts > 0].min()), float(values[counts > 0].max())
        window = shown.window or ((low + high + 1) / 2, high - low + 1, "LINEAR")
        places = (array - stored[0]).astype(np.uint16)
        return Levels(places, values, padding_mask(image.ds, stored), window, is_inverted(image.ds))


@dataclass(frozen=True, slots=True)
class _Opened:
    ds: Dataset
    layout: PixelLayout
    decoder: Decoder
    spacing_mm: tuple[float, float] | None

    def decode(self, index: int) -> tuple[NDArray[np.int32], str]:
        return decode_frame(self.decoder, self.ds, self.layout, index)

    def frame(self, array: NDArray[np.int32], photometric: str, index: int) -> Frame:
        with _parsing():
            pixels = _grey(self.ds, self.layout, array, photometric)
        if pixels.min() == pixels.max():
            raise PixelsBlank(f"every pixel of frame {index + 1} has the same value")
        return Frame(index + 1, pixels, self.spacing_mm, _pixel_aspect(self.ds, self.spacing_mm))


def _open(path: Path, limits: PixelLimits) -> _Opened:
    ds = _read_data_set(path, limits)
    with _parsing():
        if "PixelData" not in ds:
            raise PixelDataMissing("the data set has no pixel data; it is no image, or the file was cut short")
        layout = read_layout(ds, limits)
        decoder = find_decoder(ds.file_meta.TransferSyntaxUID)
        if decoder.is_native:
            check_native_length(layout, len(ds.PixelData or b""))
        return _Opened(ds, layout, decoder, _spacing_mm(ds))


@contextmanager
def _parsing() -> Iterator[None]:
    """Turn pydicom's errors into HeaderError.

    Their text can quote a value, so neither it nor the chain goes on: it might be a patient's. For the same reason
    pydicom's warnings stay here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MALFORMED as error:
        raise HeaderError(f"the data set cannot be parsed ({type(error).__name__})") from None


def _read_data_set(path: Path, limits: PixelLimits) -> Dataset:
    if path.stat().st_size > limits.maximum_total_bytes:
        raise PixelsTooLarge(f"the file is larger than {limits.maximum_total_bytes} bytes")
    # From memory, because reading a file allocates first whatever length an element claims
    stream = io.BytesIO(path.read_bytes())
    transfer_syntax = UID(read_file_meta(stream))
    with _parsing():
        if transfer_syntax != DeflatedExplicitVRLittleEndian:
            stream.seek(0)
            return dcmread(stream)
        # pydicom inflates without a bound
        inflated = inflate(stream, limits.maximum_total_bytes + 1)
        if inflated.seek(0, io.SEEK_END) > limits.maximum_total_bytes:
            raise PixelsTooLarge(f"the data set inflates to more than {limits.maximum_total_bytes} bytes")
        inflated.seek(0)
        ds = read_dataset(inflated, is_implicit_VR=False, is_little_endian=True)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = transfer_syntax
        return ds


def _grey(ds: Dataset, layout: PixelLayout, array: NDArray[np.int32], photometric: str) -> NDArray[np.float32]:
    if photometric in MONOCHROME:
        return _monochrome(ds, array)
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(array, ds)
        largest = np.iinfo(colours.dtype).max
        return _luma(colours[..., :3], largest)
    largest = 2**layout.bits_stored - 1
    if photometric.startswith("YBR"):
        luma: NDArray[np.float32] = array[..., 0].astype(np.float32) / np.float32(largest)
        return luma.clip(0, 1)
    return _luma(array, largest)


def _monochrome(ds: Dataset, array: NDArray[np.int32]) -> NDArray[np.float32]:
    stored, counts = _counted(ds, array)
    table = brightness_table(ds, stored, counts)
    table[padding_mask(ds, stored)] = 0
    pixels: NDArray[np.float32] = table[array - stored[0]]
    return pixels


def _counted(ds: Dataset, array: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the stored values from the smallest to the largest, and how many pixels have each, padding left out."""
    lowest = int(array.min())
    stored = np.arange(lowest, int(array.max()) + 1, dtype=np.int32)
    counts = np.bincount((array - lowest).ravel(), minlength=len(stored))
    return stored, np.where(padding_mask(ds, stored), 0, counts)


def _luma(colours: NDArray[np.integer], largest: int) -> NDArray[np.float32]:
    luma: NDArray[np.float32] = colours.astype(np.float32) @ _LUMA / np.float32(largest)
    return luma.clip(0, 1)


def _spacing_mm(ds: Dataset) -> tuple[float, float] | None:
    """Return the distance of pixels (between rows, between columns) in mm.

    PixelSpacing goes first: where it differs from ImagerPixelSpacing it was corrected for magnification or calibrated
    (PS3.3 10.7.1.3). A digitised film has NominalScannedPixelSpacing.
    """
    for keyword in _SPACINGS:
        with suppress(ValueError, TypeError):
            between_rows, between_columns = (float(value) for value in ds.get(keyword) or ())
            if 0 < between_rows < math.inf and 0 < between_columns < math.inf:
                return between_rows, between_columns
    return None


def _pixel_aspect(ds: Dataset, spacing_mm: tuple[float, float] | None) -> float:
    """Return the height of a pixel divided by its width; where nothing usable says so, pixels are square."""
    ratio = 1.0
    if spacing_mm is not None:
        ratio = spacing_mm[0] / spacing_mm[1]
    else:
        with suppress(ValueError, TypeError, ZeroDivisionError):
            vertical, horizontal = (float(value) for value in ds.get("PixelAspectRatio") or ())
            ratio = vertical / horizontal
    return ratio if 1 / MOST_UNEQUAL <= ratio <= MOST_UNEQUAL else 1.0
