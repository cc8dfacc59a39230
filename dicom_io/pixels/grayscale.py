"""From stored pixel values to brightness: the grayscale pipeline of PS3.3 C.11 and PS3.4 N.2 for radiographs.

Stored values have at most 16 bits, so every step works on the table of all possible values instead of on the pixels:
65,536 numbers in double precision, then one look-up an image. The order is the standard's:

    stored value -> modality LUT or rescale -> VOI LUT or window (or percentiles) -> polarity -> 0..1, 1 = bright bone
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.errors import PixelModuleInvalid, PixelsBlank
from dicom_io.pixels.display_attributes import TURNS, DisplayAttributes, LookupTable, Rescale, Values, Window
from dicom_io.pixels.visibility import STRETCHED, stretch, stretch_range

# Where no window is given: a dead detector line must not set the contrast, and next to nothing else may be clipped, for
# what is black or white here is lost to the model, which stretches the contrast by itself (models.preprocess).
LOW_PERCENT, HIGH_PERCENT = 0.05, 99.95
# A window that leaves less than this share of the pixels between black and white was made for other pixels than these,
# such as one for 8 bits that was left over beside 12.
SMALLEST_GREY_SHARE = 0.01
# Where less than the first share is grey, what is black or white must be of one kind, such as air or a mask. Shades
# over more than so many times the range that is grey are a picture that nobody would see; fewer times, the fewer pixels
# are grey.
GREY_SHARE, WIDEST_HIDDEN = 0.15, 2.0
BLACK, WHITE = 1 / 256, 255 / 256


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


@dataclass(frozen=True, slots=True)
class Rendering:
    """How one monochrome frame is shown.

    `stored` are all possible stored values one by one, `counts` how many pixels of the frame have each with padding
    left out, `values` what the modality transformation makes of them. `voi` is the lookup table or window that was
    chosen, from the file or from percentiles. `brightness` is float32, 0..1, 1 = bright bone, in the order of `stored`.
    `left_aside` says which attributes could not be used.
    """

    stored: NDArray[np.int32]
    counts: NDArray[np.int64]
    values: Values
    modality: LookupTable | Rescale
    voi: LookupTable | Window
    inverted: bool
    brightness: NDArray[np.float32]
    left_aside: tuple[str, ...]

    @property
    def window(self) -> Window:
        """The window as LINEAR, SIGMOID or LINEAR_EXACT; where a lookup table is used, that of all values."""
        if isinstance(self.voi, Window):
            return self.voi
        seen = self.values[self.counts > 0]
        return _linear(float(seen.min()), float(seen.max()))


def render(display: DisplayAttributes, stored: NDArray[np.int32], counts: NDArray[np.int64]) -> Rendering:
    """Choose the transformations of a frame, and apply them.

    The VOI lookup tables are tried first, then the windows: a maker who writes both put the care into the table. One
    that makes the whole image one shade, or most of its shades black or white, is not used: nobody could see a fracture
    through it, and "no fracture" would be the answer. Last come two percentiles. Where what was chosen leaves the image
    nearly black, white or flat, it is stretched (`dicom_io.pixels.visibility`).

    Parameters
    ----------
    display : dicom_io.pixels.display_attributes.DisplayAttributes
        What the file says.
    stored, counts : numpy.ndarray
        As in `Rendering`.

    Raises
    ------
    PixelModuleInvalid
        With a rescale that leads to no numbers, or a table that turns the grey scale round and is not whole.
    PixelsBlank
        When all pixels are the same.
    """
    present = counts > 0
    left_aside = list(display.left_aside)
    modality = _modality(display, stored[present].astype(np.float64), left_aside)
    values = modality.apply(stored.astype(np.float64))
    if not np.isfinite(values).all():
        raise PixelModuleInvalid("Rescale Slope and Intercept make numbers that are too large")
    if not present.any() or np.ptp(values[present]) == 0:
        raise PixelsBlank("every pixel of the image has the same value")
    voi, turned = _voi(display, values, counts, left_aside)
    inverted = display.inverted != turned
    brightness = voi.brightness(values)
    if seen := stretch_range(brightness, counts):
        voi = _stretched(voi, *seen)
        brightness = voi.brightness(values)
        left_aside.append(STRETCHED)
    brightness = 1 - brightness if inverted else brightness
    return Rendering(stored, counts, values, modality, voi, inverted, brightness.astype(np.float32), tuple(left_aside))


def _modality(display: DisplayAttributes, present: Values, left_aside: list[str]) -> LookupTable | Rescale:
    table = display.modality_table
    if table is None or not _is_missing(table, present, "Modality LUT Sequence", left_aside):
        return table or display.rescale
    return display.rescale


def _voi(
    display: DisplayAttributes, values: Values, counts: NDArray[np.int64], left_aside: list[str]
) -> tuple[LookupTable | Window, bool]:
    """Return a table or window, and whether the grey scale must be turned round as a table does that hides the image.

    Windows have no direction of their own: behind such a table they are not asked.
    """
    present, turned = values[counts > 0], False
    for voi in display.voi:
        is_table = isinstance(voi, LookupTable)
        if turned and not is_table:
            break
        name = "VOI LUT Sequence" if is_table else "Window Center with its Window Width"
        if isinstance(voi, LookupTable) and _is_missing(voi, present, name, left_aside):
            continue
        if _shows_the_pixels(voi.brightness(values), values, counts):
            return voi, False
        left_aside.append(f"{name} leaves too little of the image between black and white and was left aside")
        turned = turned or (isinstance(voi, LookupTable) and voi.descends)
    return percentile_window(values, counts), turned


def _stretched(voi: LookupTable | Window, low: float, high: float) -> LookupTable | Window:
    """Return what makes the display value `low` black and `high` white; a sigmoid becomes a straight line."""
    if isinstance(voi, LookupTable):
        return LookupTable(voi.first, 16, np.round(stretch(voi.entries / (2**voi.bits - 1), low, high) * 65535))
    return _linear(voi.value_at(low), voi.value_at(high))


def _is_missing(table: LookupTable, present: Values, name: str, left_aside: list[str]) -> bool:
    """Tell whether a table lacks entries for values that pixels have, so that it cannot be used.

    Raises
    ------
    PixelModuleInvalid
        When without it bone would be dark.
    """
    if not len(present) or table.covers(present):
        return False
    reason = f"{name} does not hold the entries that its LUT Descriptor declares"
    if table.descends:
        raise PixelModuleInvalid(f"{reason}, and it {TURNS}")
    left_aside.append(f"{reason} and was left aside")
    return True


def percentile_window(values: Values, counts: NDArray[np.int64]) -> Window:
    """Return the window between two percentiles of the pixels, for an image without a usable one; LINEAR.

    Parameters
    ----------
    values, counts : numpy.ndarray
        Every possible value and the number of pixels that have it; padding is not counted.
    """
    low, high = _range(values, counts, LOW_PERCENT, HIGH_PERCENT)
    return _linear(low, high) if low < high else _linear(*_range(values, counts, 0, 100))


def _range(values: Values, counts: NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """Return the values at two percentiles of the pixels."""
    present = counts > 0
    order = np.argsort(values[present], kind="stable")
    ranked = values[present][order]
    share = np.cumsum(counts[present][order]) / counts.sum() * 100
    places = np.minimum(np.searchsorted(share, (low, high)), len(ranked) - 1)
    return float(ranked[places[0]]), float(ranked[places[1]])


def _linear(low: float, high: float) -> Window:
    """Return the window that shows `low` as black and `high` as white.

    LINEAR is black at centre - 0.5 - (width - 1) / 2 and white at centre - 0.5 + (width - 1) / 2 (C.11.2.1.2.1). Where
    a small slope leaves so little between the two that the 1 would swallow it, LINEAR_EXACT says the same.
    """
    if high - low < 0.01:
        return Window((low + high) / 2, high - low, "LINEAR_EXACT")
    return Window((low + high) / 2 + 0.5, high - low + 1)


def softcopy(rendering: Rendering) -> Softcopy:
    """Return what a viewer must do to show the stored values as they are rendered.

    Without lookup tables it is a rescale and a window, which a person at a viewer can change. With them it is one table
    from stored values to brightness, so that no flaw of theirs is carried on.
    """
    if isinstance(rendering.modality, LookupTable) or isinstance(rendering.voi, LookupTable):
        table = np.round(rendering.brightness.astype(np.float64) * 65535).astype(np.uint16)
        return Softcopy(1.0, -float(rendering.stored[0]), table=table)
    window = rendering.voi
    return Softcopy(
        rendering.modality.slope,
        rendering.modality.intercept,
        window=(window.centre, window.width, window.function),
        inverted=rendering.inverted,
    )


def _shows_the_pixels(brightness: Values, values: Values, counts: NDArray[np.int64]) -> bool:
    grey = (brightness > BLACK) & (brightness < WHITE)
    share = counts[grey].sum() / counts.sum()
    if share < SMALLEST_GREY_SHARE or np.ptp(brightness[counts > 0]) == 0:
        return False
    if share >= GREY_SHARE:
        return True
    widest = WIDEST_HIDDEN * share / GREY_SHARE * np.ptp(values[grey & (counts > 0)])
    return all(
        _spread(values, np.where(end, counts, 0)) <= widest for end in (brightness <= BLACK, brightness >= WHITE)
    )


def _spread(values: Values, counts: NDArray[np.int64]) -> float:
    """Return how far the values of most of these pixels lie apart."""
    if not counts.any():
        return 0.0
    low, high = _range(values, counts, 5, 95)
    return high - low
