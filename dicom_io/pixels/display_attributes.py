"""How an image is to be displayed: the attributes of modality, VOI and polarity, read once and checked (PS3.3 C.11).

One attribute that cannot be used must not cost the image: it is left aside, the next source takes its place, and what
was left aside is told. The exceptions are those without which the grey scale may be upside down: they fail the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_io.errors import PixelModuleInvalid
from dicom_io.header.attributes import as_word, is_empty, name_of, number, numbers, term, words
from dicom_io.pixels.limits import PixelLayout

Values = NDArray[np.float64]

MOST_TRIED = 16
"""Windows and lookup tables of one image that are looked at; more are nobody's choice."""
TURNS = "turns the grey scale round: it cannot be left aside"
"""Why a lookup table that cannot be used fails the image: without it bone would be dark."""
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A modality or VOI lookup table (PS3.3 C.11.1.1, C.11.2.1.1).

    `entries` belong to the input values `first`, `first` + 1, ...; inputs below or above get the first or last entry.
    `whole` is False where the descriptor declares another number of entries than there are.
    """

    first: int
    bits: int
    entries: Values
    whole: bool = True

    def apply(self, values: Values) -> Values:
        """Return the entry of each value; values between two integers are rounded."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.intp)
        taken: Values = self.entries[index]
        return taken

    def brightness(self, values: Values) -> Values:
        """Return the display values 0..1."""
        shown: Values = self.apply(values) / (2**self.bits - 1)
        return shown

    def covers(self, values: Values) -> bool:
        """Tell whether no entry is missing for these values; those beyond a whole table get its ends by definition."""
        last = self.first + len(self.entries) - 1
        return self.whole or bool(values.min() >= self.first and values.max() <= last)

    @property
    def descends(self) -> bool:
        """Whether it turns the grey scale round, so that bone would be dark without it."""
        return bool(self.entries[0] > self.entries[-1])


@dataclass(frozen=True, slots=True)
class Window:
    """A window (PS3.3 C.11.2.1.2) and its VOI LUT Function, of a width that the standard allows."""

    centre: float
    width: float
    function: str = "LINEAR"

    @property
    def is_allowed(self) -> bool:
        """Whether the width is one that the standard knows: at least 1, with the other two functions above 0."""
        return self.width >= 1 if self.function == "LINEAR" else self.width > 0

    def brightness(self, values: Values) -> Values:
        """Return the display values 0..1.

        References
        ----------
        PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT).
        """
        if self.function == "SIGMOID":
            # exp would overflow far from the centre, where the answer is 0 or 1 to the last digit anyway
            curve: Values = 1 / (1 + np.exp(np.clip(-4 * (values - self.centre) / self.width, -700, 700)))
            return curve
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.centre) / self.width + 0.5, 0, 1)
        if self.width == 1:
            return (values > self.centre - 0.5).astype(np.float64)
        return np.clip((values - (self.centre - 0.5)) / (self.width - 1) + 0.5, 0, 1)

    def value_at(self, brightness: float) -> float:
        """Return the value that is displayed so; of a sigmoid between its ends, which it never reaches."""
        if self.function == "SIGMOID":
            inside = min(max(brightness, 1e-6), 1 - 1e-6)
            return self.centre - self.width / 4 * math.log(1 / inside - 1)
        if self.function == "LINEAR_EXACT":
            return self.centre + (brightness - 0.5) * self.width
        return self.centre - 0.5 + (brightness - 0.5) * (self.width - 1)


@dataclass(frozen=True, slots=True)
class Rescale:
    """Rescale Slope and Intercept (PS3.3 C.11.1); without them the stored values stay as they are."""

    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, values: Values) -> Values:
        """Return the rescaled values."""
        rescaled: Values = values * self.slope + self.intercept
        return rescaled


@dataclass(frozen=True, slots=True)
class DisplayAttributes:
    """What a monochrome image says of its display, as far as it can be used.

    `modality_table` replaces `rescale` where there is one. `voi` holds the lookup tables, then the windows, in the
    order in which they are tried. `padding` is the smallest and the largest padding value. `inverted` says that the
    display values must be turned round for bone to be bright. `left_aside` holds a sentence for each attribute that
    could not be used.
    """

    rescale: Rescale
    modality_table: LookupTable | None
    voi: tuple[LookupTable | Window, ...]
    padding: tuple[int, int] | None
    inverted: bool
    left_aside: tuple[str, ...] = ()


def read_display_attributes(ds: Dataset, layout: PixelLayout) -> DisplayAttributes:
    """Read the attributes of an image's display.

    Raises
    ------
    PixelModuleInvalid
        With a Rescale Slope or Intercept that cannot be read, or a lookup table that cannot be used and turns the grey
        scale round: nobody knows then whether bone is bright.

    References
    ----------
    PS3.3 C.7.5.1.1.2, C.7.6.3.1.2, C.8.11.3, C.11.1, C.11.2, C.11.6.
    """
    left_aside: list[str] = []
    table = next(_tables(ds, "ModalityLUTSequence", left_aside, signed_input=layout.signed), None)
    # A whole table replaces the rescale; one that is not may turn out not to be usable for these pixels.
    rescale = Rescale() if table is not None and table.whole else _read_rescale(ds, left_aside)
    signed_output = table is None and _may_be_negative(rescale, layout)
    tables = tuple(_tables(ds, "VOILUTSequence", left_aside, signed_input=signed_output))
    return DisplayAttributes(
        rescale=rescale,
        modality_table=table,
        voi=(*tables, *_windows(ds, left_aside)),
        padding=read_padding(ds, left_aside, signed=layout.signed),
        inverted=is_inverted(ds, layout.photometric, left_aside),
        left_aside=tuple(left_aside),
    )


def _may_be_negative(rescale: Rescale, layout: PixelLayout) -> bool:
    """Tell whether the output of the rescale can have a sign: that of the VOI LUT's first value (C.11.2.1.1)."""
    lowest = -(1 << layout.bits_stored - 1) if layout.signed else 0
    ends = np.array([lowest, lowest + (1 << layout.bits_stored) - 1], dtype=np.float64)
    return bool(rescale.apply(ends).min() < 0)


def _read_rescale(ds: Dataset, left_aside: list[str]) -> Rescale:
    slope, intercept = (
        _number_or_failure(ds, keyword, default)
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if slope == 0:
        left_aside.append("Rescale Slope is 0: Rescale Slope and Intercept were left aside")
        return Rescale()
    return Rescale(slope, intercept)


def _number_or_failure(ds: Dataset, keyword: str, default: float) -> float:
    if is_empty(ds, keyword):
        return default
    value = number(ds, keyword)
    if value is None:
        raise PixelModuleInvalid(f"{name_of(keyword)} cannot be read as a number")
    return value


def _tables(ds: Dataset, keyword: str, left_aside: list[str], *, signed_input: bool) -> Iterator[LookupTable]:
    """Yield the usable lookup tables of a sequence."""
    for place, item in enumerate(_items(ds, keyword, left_aside), start=1):
        try:
            yield read_lookup_table(item, signed_input=signed_input, little_endian=is_little_endian(ds))
        except PixelModuleInvalid as error:
            reason = f"{name_of(keyword)}, item {place}: {error}"
            entries = _lookup_entries(item, 0, 16, "<" if is_little_endian(ds) else ">")
            if len(entries) and entries[0] > entries[-1]:
                raise PixelModuleInvalid(f"{reason}, and it {TURNS}") from error
            left_aside.append(f"{reason}; it was left aside")


def _items(ds: Dataset, keyword: str, left_aside: list[str]) -> list[Dataset]:
    try:
        sequence = ds.get(keyword)
    except Exception:  # noqa: BLE001 - pydicom parses a sequence when it is asked for, and raises what it likes
        sequence = False
    if isinstance(sequence, Sequence):
        return list(sequence[:MOST_TRIED])
    if sequence is not None:
        left_aside.append(f"{name_of(keyword)} holds no items that can be read and was left aside")
    return []


def read_lookup_table(item: Dataset, *, signed_input: bool, little_endian: bool) -> LookupTable:
    """Return the lookup table in an item of a Modality or VOI LUT Sequence.

    The descriptor's first number 0 means 65,536 entries; its second is signed where the input is, whatever the
    descriptor's own VR. Eight bit entries stand one a byte or, as older writers did, one a word. Some writers declare
    fewer bits than their entries use: the scale then follows the entries.

    Raises
    ------
    PixelModuleInvalid
        Without descriptor or data, or with a descriptor that is no such thing.
    """
    descriptor = words(item, "LUTDescriptor", signed=False)
    if len(descriptor) != 3 or None in descriptor:
        raise PixelModuleInvalid("LUT Descriptor is missing or has not three numbers")
    count, first, bits = (int(value or 0) for value in descriptor)
    count = count or 65536
    if not 1 <= bits <= 16:
        raise PixelModuleInvalid(f"LUT Descriptor declares entries of {bits} bits")
    entries = _lookup_entries(item, count, bits, "<" if little_endian else ">")
    if not len(entries):
        raise PixelModuleInvalid("LUT Data is missing or empty")
    table = entries[:count].astype(np.float64)
    # a byte of padding makes the length even (PS3.5 6.2)
    whole = count <= len(entries) <= count + (1 if bits <= 8 else 0)
    return LookupTable(
        first=as_word(first, signed=signed_input) or 0,
        bits=max(bits, int(table.max()).bit_length()),
        entries=table,
        whole=whole,
    )


def _lookup_entries(item: Dataset, count: int, bits: int, byte_order: str) -> NDArray[np.integer]:
    element = item.get_item("LUTData")
    data = None if element is None else element.value
    if isinstance(data, bytes):
        if bits <= 8 and len(data) < 2 * count:
            return np.frombuffer(data, np.uint8)
        return np.frombuffer(data[: len(data) // 2 * 2], f"{byte_order}u2")
    try:
        return np.atleast_1d(np.asarray([] if data is None else data, dtype=np.int64)) & 0xFFFF
    except (TypeError, ValueError, OverflowError):
        return np.empty(0, dtype=np.int64)


def _windows(ds: Dataset, left_aside: list[str]) -> Iterator[Window]:
    """Yield the usable windows: of several, the first is the maker's default."""
    centres, widths = numbers(ds, "WindowCenter"), numbers(ds, "WindowWidth")
    if is_empty(ds, "WindowCenter") and is_empty(ds, "WindowWidth"):
        return
    function = term(ds, "VOILUTFunction") or "LINEAR"
    if function not in FUNCTIONS:
        left_aside.append("VOI LUT Function is not a term of the standard and was left aside")
        function = "LINEAR"
    if len(centres) != len(widths):
        left_aside.append(
            f"Window Center has {len(centres)} values, Window Width {len(widths)}: what has no partner was left aside"
        )
    for place, (centre, width) in enumerate(zip(centres, widths, strict=False), start=1):
        if place > MOST_TRIED:
            return
        if centre is None or width is None:
            left_aside.append(f"Window Center or Window Width {place} is not a number and was left aside")
        elif not Window(centre, width, function).is_allowed:
            left_aside.append(f"Window Width {place} is smaller than the standard allows and was left aside")
        else:
            yield Window(centre, width, function)


def read_padding(ds: Dataset, left_aside: list[str], *, signed: bool) -> tuple[int, int] | None:
    """Return the padding values (PS3.3 C.7.5.1.1.2): one value, or a range with its limit, ends included.

    What cannot be used is added to `left_aside`.
    """
    found = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = next(iter(words(ds, keyword, signed=signed)), None)
        if value is None and not is_empty(ds, keyword):
            left_aside.append(f"{name_of(keyword)} is no number of 16 bits and was left aside")
        if value is not None:
            found.append(value)
        elif not found:
            return None  # a limit without a value is no range
    return min(found), max(found)


def is_inverted(ds: Dataset, photometric: str, left_aside: list[str]) -> bool:
    """Tell whether the display values must be turned round for bone to be bright.

    MONOCHROME1 (the smallest value is white, PS3.3 C.7.6.3.1.2) and a PresentationLUTShape of INVERSE (C.11.6) say
    the *same* thing: a DX image must carry both or neither (C.8.11.3), and applying both would undo one by the other.
    Where they contradict each other, PixelIntensityRelationshipSign decides if it is there: 1 means that small values
    are little radiation behind the patient, that is bone (C.8.11.3). Else whichever asks for an inversion gets it.
    An image FOR PROCESSING was never meant for display: there the sign, if given, goes before both.
    What of these is no value of the standard is added to `left_aside`.
    """
    dark_is_high = photometric == "MONOCHROME1"
    shape = term(ds, "PresentationLUTShape")
    if shape not in ("IDENTITY", "INVERSE") and not is_empty(ds, "PresentationLUTShape"):
        left_aside.append("Presentation LUT Shape is not a term of the standard and was left aside")
    contradiction = (dark_is_high and shape == "IDENTITY") or (not dark_is_high and shape == "INVERSE")
    sign = next(iter(words(ds, "PixelIntensityRelationshipSign", signed=True)), None)
    if sign not in {1, -1} and not is_empty(ds, "PixelIntensityRelationshipSign"):
        left_aside.append("Pixel Intensity Relationship Sign is neither 1 nor -1 and was left aside")
    if sign in {1, -1} and (contradiction or term(ds, "PresentationIntentType") == "FOR PROCESSING"):
        return bool(sign == 1)
    return dark_is_high or contradiction


def is_little_endian(ds: Dataset) -> bool:
    """Tell the byte order of the data set, which its lookup tables share (PS3.5 7.3)."""
    return bool(ds.file_meta.TransferSyntaxUID.is_little_endian)
