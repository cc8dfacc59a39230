"""From stored pixel values to brightness: the grayscale pipeline of PS3.3 C.11 and PS3.4 N.2 for radiographs.

Stored values have at most 16 bits, so every step works on the table of all possible values instead of on the pixels:
65,536 numbers in double precision, then one look-up an image. The order is the standard's:

    stored value -> modality LUT or rescale -> VOI LUT or window (or percentiles) -> polarity -> 0..1, 1 = bright bone
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_io.errors import PixelModuleInvalid, PixelsBlank

Values = NDArray[np.float64]

# Where no window is given: a dead detector line must not set the contrast, and next to nothing else may be clipped, for
# what is black or white here is lost to the model, which stretches the contrast by itself (models.preprocess).
LOW_PERCENT, HIGH_PERCENT = 0.05, 99.95
# A window that leaves less than this share of the pixels between black and white was made for other pixels than these,
# such as one for 8 bits that was left over beside 12.
SMALLEST_GREY_SHARE = 0.01
BLACK, WHITE = 1 / 256, 255 / 256


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A modality or VOI lookup table (PS3.3 C.11.1.1, C.11.2.1.1).

    `entries` belong to the input values `first`, `first` + 1, ...; inputs below or above get the first or last entry.
    """

    first: int
    bits: int
    entries: Values

    def apply(self, values: Values) -> Values:
        """Return the entry of each value; values between two integers are rounded."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.intp)
        taken: Values = self.entries[index]
        return taken


@dataclass(frozen=True, slots=True)
class Softcopy:
    """The grayscale transformations of a presentation state (PS3.4 N.2): rescale, then window or table, then polarity.

    `window` is (centre, width, VOI LUT Function); `table` is uint16, 65535 = white, and its first entry belongs to the
    rescaled value 0. Exactly one of them is given. A table holds the polarity too, so `inverted` goes with a window.
    """

    slope: float
    intercept: float
    window: tuple[float, float, str] | None = None
    table: NDArray[np.uint16] | None = None
    inverted: bool = False


def read_lookup_table(item: Dataset, *, signed_input: bool, little_endian: bool) -> LookupTable:
    """Return the lookup table in an item of a Modality or VOI LUT Sequence.

    The descriptor's first number 0 means 65,536 entries; its second is signed where the input is. Eight bit entries
    stand one a byte or, as older writers did, one a word. Some writers declare fewer bits than their entries use: the
    scale then follows the entries.

    Raises
    ------
    PixelModuleInvalid
        Without descriptor or data, or with fewer entries than declared.
    """
    descriptor = [int(value) for value in item.get("LUTDescriptor") or ()]
    data = item.get("LUTData")
    if len(descriptor) != 3 or data is None:
        raise PixelModuleInvalid("a lookup table lacks its descriptor or its data")
    count, first, bits = descriptor[0] % 65536 or 65536, descriptor[1], descriptor[2]
    if signed_input and first >= 32768:
        first -= 65536
    entries = _lookup_entries(data, count, bits, "<" if little_endian else ">")
    if len(entries) < count or not 1 <= bits <= 16:
        raise PixelModuleInvalid(f"a lookup table declares {count} entries of {bits} bits and holds {len(entries)}")
    table = entries[:count].astype(np.float64)
    return LookupTable(first, max(bits, int(table.max()).bit_length()), table)


def _lookup_entries(data: bytes | int | list[int], count: int, bits: int, byte_order: str) -> NDArray[np.integer]:
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
    if bits <= 8 and len(data) < 2 * count:
        return np.frombuffer(data, np.uint8)
    return np.frombuffer(data[: len(data) // 2 * 2], f"{byte_order}u2")


def modality_values(ds: Dataset, stored: NDArray[np.int32]) -> Values:
    """Return the output of the modality transformation (PS3.3 C.11.1) for these stored values.

    Raises
    ------
    PixelModuleInvalid
        With a lookup table or a rescale that cannot be used.
    """
    values = stored.astype(np.float64)
    if sequence := ds.get("ModalityLUTSequence"):
        signed = bool(ds.get("PixelRepresentation"))
        return read_lookup_table(sequence[0], signed_input=signed, little_endian=is_little_endian(ds)).apply(values)
    slope, intercept = number(ds, "RescaleSlope"), number(ds, "RescaleIntercept")
    if slope == 0:
        raise PixelModuleInvalid("RescaleSlope is 0: every pixel would be the same")
    return values * (1.0 if slope is None else slope) + (intercept or 0.0)


def voi_brightness(ds: Dataset, values: Values) -> Values | None:
    """Return the display values 0..1 of the first VOI LUT or window (PS3.3 C.11.2), None where there is none.

    A lookup table goes before a window: a maker who writes both put the care into the table. Of several, the first is
    the maker's default. A window narrower than the standard allows counts as none.
    """
    if sequence := ds.get("VOILUTSequence"):
        # The descriptor's sign is that of the modality transformation's output (C.11.2.1.1)
        signed = bool(ds.get("PixelRepresentation")) or (number(ds, "RescaleIntercept") or 0) < 0
        table = read_lookup_table(sequence[0], signed_input=signed, little_endian=is_little_endian(ds))
        brightness: Values = table.apply(values) / (2**table.bits - 1)
        return brightness
    centre, width = number(ds, "WindowCenter"), number(ds, "WindowWidth")
    if centre is None or width is None:
        return None
    return window_brightness(values, centre, width, str(ds.get("VOILUTFunction") or "LINEAR"))


def window_brightness(values: Values, centre: float, width: float, function: str) -> Values | None:
    """Return the display values 0..1 of a window, None where its width is not allowed.

    References
    ----------
    PS3.3 C.11.2.1.2.1 (LINEAR, which also stands for a word that the standard does not know), C.11.2.1.3.1 (SIGMOID),
    C.11.2.1.3.2 (LINEAR_EXACT).
    """
    if width <= 0:
        return None
    if function == "SIGMOID":
        # exp would overflow far from the centre, where the answer is 0 or 1 to the last digit anyway
        brightness: Values = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
        return brightness
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if width < 1:
        return None
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def percentile_brightness(values: Values, counts: NDArray[np.int64]) -> Values:
    """Return display values 0..1 spread between two percentiles of the pixels.

    Parameters
    ----------
    values, counts : numpy.ndarray
        Every possible value and the number of pixels that have it; padding is not counted.
    """
    low, high = percentile_range(values, counts)
    brightness: Values = (values - low) / (high - low)
    return brightness.clip(0, 1)


def percentile_range(values: Values, counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the values that become black and white where no window is given; arguments as above."""
    present = counts > 0
    order = np.argsort(values[present], kind="stable")
    ranked = values[present][order]
    share = np.cumsum(counts[present][order]) / counts.sum() * 100
    low, high = ranked[np.searchsorted(share, LOW_PERCENT)], ranked[np.searchsorted(share, HIGH_PERCENT)]
    return (float(low), float(high)) if low < high else (float(ranked[0]), float(ranked[-1]))


def is_inverted(ds: Dataset) -> bool:
    """Tell whether the display values must be turned round for bone to be bright.

    MONOCHROME1 (the smallest value is white, PS3.3 C.7.6.3.1.2) and a PresentationLUTShape of INVERSE (C.11.6) say
    the *same* thing: a DX image must carry both or neither (C.8.11.3), and applying both would undo one by the other.
    Where they contradict each other, PixelIntensityRelationshipSign decides if it is there: 1 means that small values
    are little radiation behind the patient, that is bone (C.8.11.3). Else whichever asks for an inversion gets it.
    An image FOR PROCESSING was never meant for display: there the sign, if given, goes before both.
    """
    dark_is_high = ds.get("PhotometricInterpretation") == "MONOCHROME1"
    shape = ds.get("PresentationLUTShape")
    contradiction = (dark_is_high and shape == "IDENTITY") or (not dark_is_high and shape == "INVERSE")
    sign = ds.get("PixelIntensityRelationshipSign")
    if sign in {1, -1} and (contradiction or ds.get("PresentationIntentType") == "FOR PROCESSING"):
        return bool(sign == 1)
    return dark_is_high or contradiction


def brightness_table(ds: Dataset, stored: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the brightness of every possible stored value of a monochrome image.

    A window that makes the whole image one shade, or next to all of it black or white, although its pixels differ, is
    not used: nobody could see a fracture through it, and "no fracture" would be the answer.

    Parameters
    ----------
    stored : numpy.ndarray
        All possible stored values, one by one.
    counts : numpy.ndarray
        How many pixels of the frame have each, padding left out.

    Returns
    -------
    numpy.ndarray
        float32, 0..1, 1 = bright bone, in the order of `stored`.

    Raises
    ------
    PixelModuleInvalid
        With a lookup table or rescale that cannot be used.
    PixelsBlank
        When all pixels are the same.
    """
    present = counts > 0
    values = modality_values(ds, stored)
    if not present.any() or np.ptp(values[present]) == 0:
        raise PixelsBlank("every pixel of the image has the same value")
    brightness = voi_brightness(ds, values)
    if brightness is None or not _shows_the_pixels(brightness, counts):
        brightness = percentile_brightness(values, counts)
    return (1 - brightness if is_inverted(ds) else brightness).astype(np.float32)


def softcopy(ds: Dataset, stored: NDArray[np.int32], counts: NDArray[np.int64]) -> Softcopy:
    """Return what a viewer must do to show the stored values as `brightness_table` does; arguments as there.

    Without lookup tables it is a rescale and a window, which a person at a viewer can change. With them it is one table
    from stored values to brightness, so that no flaw of theirs is carried on.
    """
    if ds.get("ModalityLUTSequence") or ds.get("VOILUTSequence"):
        table = np.round(brightness_table(ds, stored, counts).astype(np.float64) * 65535).astype(np.uint16)
        return Softcopy(1.0, -float(stored[0]), table=table)
    values = modality_values(ds, stored)
    slope, intercept = number(ds, "RescaleSlope"), number(ds, "RescaleIntercept")
    rescale = (1.0 if slope is None else slope, intercept or 0.0)
    brightness = voi_brightness(ds, values)
    if brightness is not None and _shows_the_pixels(brightness, counts):
        centre, width = number(ds, "WindowCenter"), number(ds, "WindowWidth")
        function = str(ds.get("VOILUTFunction") or "LINEAR")
        function = function if function in ("SIGMOID", "LINEAR_EXACT") else "LINEAR"
        return Softcopy(*rescale, window=(centre or 0.0, width or 1.0, function), inverted=is_inverted(ds))
    low, high = percentile_range(values, counts)
    # LINEAR is black at centre - 0.5 - (width - 1) / 2 and white at centre - 0.5 + (width - 1) / 2 (C.11.2.1.2.1).
    window = ((low + high) / 2 + 0.5, high - low + 1, "LINEAR")
    return Softcopy(*rescale, window=window, inverted=is_inverted(ds))


def _shows_the_pixels(brightness: Values, counts: NDArray[np.int64]) -> bool:
    grey = (brightness > BLACK) & (brightness < WHITE)
    share = counts[grey].sum() / counts.sum()
    return bool(share >= SMALLEST_GREY_SHARE and np.ptp(brightness[counts > 0]) > 0)


def padding_mask(ds: Dataset, stored: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tell which stored values are padding (PS3.3 C.7.5.1.1.2): one value, or a range with its limit, ends included."""
    padding, limit = number(ds, "PixelPaddingValue"), number(ds, "PixelPaddingRangeLimit")
    if padding is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = padding if limit is None else limit
    if ds.get("PixelRepresentation"):
        # the element's own VR is often US where it should be SS
        padding, limit = (value - 65536 if value > 32767 else value for value in (padding, limit))
    return (stored >= min(padding, limit)) & (stored <= max(padding, limit))


def number(ds: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric attribute, None where it is missing, empty or not a number."""
    value = ds.get(keyword)
    if value is not None and not isinstance(value, (str, int, float)):
        value = next(iter(value), None)
    if value is None or value == "":
        return None
    return float(value) if math.isfinite(float(value)) else None


def is_little_endian(ds: Dataset) -> bool:
    """Tell the byte order of the data set, which its lookup tables share (PS3.5 7.3)."""
    return bool(ds.file_meta.TransferSyntaxUID.is_little_endian)
