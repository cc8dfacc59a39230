"""The stored values within the words that a decoder delivers, and what to make of bits that should not be set.

PS3.5 8.1.1: a word of Bits Allocated holds Bits Stored, their highest at High Bit. What lies in the other bits may be
an overlay of old (PS3.5 8.1.2) or nothing at all, and is ignored. But some devices write 12 bits and declare 10. Cut
to 10 the values wrap round, four times over the grey scale, and what is left is no radiograph. The values tell the two
apart: where the bits above go on counting, a step in them goes with a step back in the bits below, and the whole word
changes little from a pixel to the next. An overlay makes the word jump while the bits below go on.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_io.errors import PixelModuleInvalid
from dicom_io.header.attributes import number
from dicom_io.pixels.limits import MONOCHROME, PixelLayout

# Measured on the sample radiographs: where a bit goes on counting, the share of steps that say so was 0.52 or more for
# two bits too few and 0.38 for the noisiest of sixteen. A bit that has nothing to do with those below it reaches 0.25
# where they are pure noise, and 0.04 on a radiograph.
GOES_ON, APART = 0.5, 0.25
# Of a frame with more pixels, every nth row and column is looked at.
MOST_COMPARED = 1_000_000
# Fewer stray pixels than this share of the frame hide nothing.
STRAY = 0.001


def stored_values(
    words: NDArray[np.integer],
    layout: PixelLayout,
    *,
    aligned: bool,
    overlays: Iterable[int] = (),
    padding: tuple[int, int] | None = None,
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the stored values of a frame, with their sign, and what was mended.

    Parameters
    ----------
    words : numpy.ndarray
        Integers, shape (rows, columns) or (rows, columns, 3): whole words as decoded.
    layout : dicom_io.pixels.limits.PixelLayout
        What the header declares.
    aligned : bool
        Whether the words are a codestream's samples, whose bit 0 is that of the stored value whatever High Bit says.
    overlays : iterable of int
        The bits that overlays lie in, 0 the lowest.
    padding : tuple of int, optional
        The smallest and the largest padding value, which may have more bits than are stored.

    Raises
    ------
    PixelModuleInvalid
        When bits are set above those declared and the values do not tell whether they belong to them.

    References
    ----------
    PS3.5 8.1.1, 8.1.2; PS3.3 C.9.2 (overlay planes).
    """
    every = (1 << layout.bits_allocated) - 1
    overlaid = sum(1 << bit for bit in set(overlays))
    full = words.astype(np.int32) & (every & ~overlaid)
    shift = 0 if aligned else layout.high_bit + 1 - layout.bits_stored
    told: tuple[str, ...] = ()
    if shift and layout.photometric in MONOCHROME and _is_right_aligned(full, layout, shift):
        told = (f"High Bit is {layout.high_bit}, but the pixels use the bits from 0 on: these were read",)
        shift = 0
    full >>= shift
    low = _as_signed(full & ((1 << layout.bits_stored) - 1), layout.bits_stored, signed=layout.signed)
    if full.max() >> layout.bits_stored == 0:
        return _with_sign_or_without(full, low, layout, told)
    above = (-1 << layout.bits_stored) & every & ~(overlaid >> shift)
    # Bits above that repeat the sign are no news; neither are those of padding, which has values of its own.
    unexpected = ((full & above) != 0) & (((full ^ low) & above) != 0)
    if padding is not None and not shift:
        whole = _as_signed(full, layout.bits_allocated, signed=layout.signed)
        padded = unexpected & (whole >= padding[0]) & (whole <= padding[1])
        low[padded] = whole[padded]
        unexpected &= ~padded
    if layout.photometric not in MONOCHROME or not unexpected.any():
        return low, told
    bits = _bits_that_go_on(full & ~(overlaid >> shift), layout, stray=unexpected.mean() < STRAY)
    if bits == layout.bits_stored:
        return low, told
    wide, sign = _wide(full & ((1 << bits) - 1), bits, layout)
    return wide, (*told, f"Bits Stored is {layout.bits_stored}, but the pixels use {bits} bits{sign}: these were read")


def overlay_bits(ds: Dataset, layout: PixelLayout) -> tuple[int, ...]:
    """Return the bits of the pixels' words that hold overlay planes (retired; PS3.3-2004 C.9.2, PS3.5 8.1.2).

    An overlay with data of its own has none there.
    """
    found = []
    for group in range(0x6000, 0x6020, 2):
        position = number(ds, group << 16 | 0x0102)
        lowest = layout.high_bit + 1 - layout.bits_stored
        if position is None or group << 16 | 0x3000 in ds or lowest <= position <= layout.high_bit:
            continue
        if 0 <= position < layout.bits_allocated:
            found.append(int(position))
    return tuple(found)


def _as_signed(values: NDArray[np.int32], bits: int, *, signed: bool) -> NDArray[np.int32]:
    if not signed:
        return values
    sign = 1 << (bits - 1)
    return (values ^ sign) - sign


def _is_right_aligned(full: NDArray[np.int32], layout: PixelLayout, shift: int) -> bool:
    """Tell whether all words are values of Bits Stored that begin at bit 0, although High Bit says otherwise."""
    own = _as_signed(full & ((1 << layout.bits_stored) - 1), layout.bits_stored, signed=layout.signed)
    alike = np.array_equal(full, own & ((1 << layout.bits_allocated) - 1))
    return alike and bool((full & ((1 << shift) - 1)).any())


def _bits_that_go_on(full: NDArray[np.int32], layout: PixelLayout, *, stray: bool) -> int:
    """Return how many bits, from bit 0 on, hold the values: Bits Stored, or more where the bits above go on counting.

    Raises
    ------
    PixelModuleInvalid
        When a bit above neither goes on counting nor is apart, and more than stray pixels have such bits.
    """
    bits = layout.bits_stored
    for bit in range(layout.bits_stored, layout.bits_allocated):
        share = _share_of_steps_that_go_on(full, bit)
        if share is None:  # the same in all pixels that lie beside each other
            continue
        if share <= APART:
            break
        if share >= GOES_ON:
            bits = bit + 1
        elif not stray:
            raise PixelModuleInvalid(
                f"Bits Stored is {layout.bits_stored}, and the bits above neither belong to the pixels' values "
                "nor are apart from them"
            )
    return bits


def _share_of_steps_that_go_on(full: NDArray[np.int32], bit: int) -> float | None:
    """Return the share of the pixels beside each other that differ in `bit` and come nearer to each other by it.

    The values up to `bit` are compared on a circle, for they may still wrap, with those below `bit`. None where no two
    differ.
    """
    size = 1 << bit
    on = apart = 0
    for values in _lines(full):
        steps = np.diff(values & size) != 0
        whole, part = (np.abs(np.diff(values & (mask - 1))[steps]) for mask in (2 * size, size))
        whole = np.minimum(whole, 2 * size - whole)
        on += int((whole < part).sum())
        apart += int((whole >= part).sum())
    return on / (on + apart) if on + apart else None


def _wide(values: NDArray[np.int32], bits: int, layout: PixelLayout) -> tuple[NDArray[np.int32], str]:
    """Return values of `bits` bits with their sign, and what to say of it.

    Whoever errs in Bits Stored may err in Pixel Representation, and signed values may all be positive. The smoother
    reading is right, for with a sign in the wrong place values wrap.
    """
    readings = {False: values, True: _as_signed(values, bits, signed=True)}
    signed = min(readings, key=lambda each: (_roughness(readings[each]), each != layout.signed))
    return readings[signed], "" if signed == layout.signed else f" {'with' if signed else 'without'} a sign"


def _with_sign_or_without(
    full: NDArray[np.int32], low: NDArray[np.int32], layout: PixelLayout, told: tuple[str, ...]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return `low`, or the values without a sign where they are said to have one and have none.

    Negative values are written with their sign repeated up to the highest bit, nearly always. Where the bits above are
    zero under a set sign bit, either the writer left them so, or the values have no sign.

    Raises
    ------
    PixelModuleInvalid
        When the values do not tell.
    """
    size = 1 << layout.bits_stored
    if not layout.signed or layout.bits_stored == layout.bits_allocated or low.min() >= 0:
        return low, told
    if layout.photometric not in MONOCHROME:
        return low, told
    wrapping = steps = 0
    for values in _lines(full):
        whole = np.abs(np.diff(values)[np.diff(values >= size // 2)])
        wrapping += int((2 * whole > size).sum())
        steps += len(whole)
    share = wrapping / steps if steps else 1.0
    if share >= GOES_ON:  # without a sign the values would wrap
        return low, told
    if share > APART:
        raise PixelModuleInvalid("Pixel Representation says that values have a sign, and the pixels do not tell")
    return full, (*told, "Pixel Representation is 1, but the pixels have no sign: they were read without")


def _roughness(values: NDArray[np.int32]) -> int:
    return sum(int(np.abs(np.diff(lines)).sum(dtype=np.int64)) for lines in _lines(values))


def _lines(values: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return rows, then columns as rows; of a large frame not all, for a share needs no more."""
    step = 1 + values.size // MOST_COMPARED
    return values[::step], values.T[::step]
