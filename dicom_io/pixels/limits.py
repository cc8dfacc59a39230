"""What an image declares about its pixels, checked before a single one is decoded (PS3.3 C.7.6.3, PS3.5 8).

A header of ten kilobytes can declare 46,341 x 46,341 pixels, and decoders allocate what they are told. So what is
declared is read first and held against limits; `codestream` does the same for what stands inside a compressed frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_io.errors import PixelDataTruncated, PixelModuleInvalid, PixelsTooLarge
from dicom_io.header.attributes import is_empty, name_of, number, term

MONOCHROME = frozenset({"MONOCHROME1", "MONOCHROME2"})
ONE_SAMPLE = MONOCHROME | {"PALETTE COLOR"}
THREE_SAMPLES = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
# Terms of the standard that are repeated in a message; anything else might be anything
OTHER_TERMS = frozenset({"HSV", "ARGB", "CMYK", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "XYB"})

# Type 1 (PS3.3 C.7.6.3) and nothing that could be guessed; High Bit follows from Bits Stored in all but odd images.
REQUIRED = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """The most that is decoded.

    A stitched leg on the finest detectors has some 40 million pixels, a digitised large film as many; twice that is the
    limit of a frame. `maximum_total_bytes` counts all frames together, decoded, and also bounds the file itself.
    """

    maximum_pixels_per_frame: int = 80_000_000
    maximum_total_bytes: int = 1 << 30
    maximum_frames: int = 128


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The Image Pixel module (PS3.3 C.7.6.3) of an image that is within the limits."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    frames: int
    photometric: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame when decoded."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


def read_layout(ds: Dataset, limits: PixelLimits) -> PixelLayout:
    """Return what the data set declares, if it can be an image at all and is within the limits.

    Raises
    ------
    PixelModuleInvalid
        When an attribute is missing or contradicts the standard or another one.
    PixelsTooLarge
        When more is declared than the limits allow.
    """
    if missing := [name_of(keyword) for keyword in REQUIRED if is_empty(ds, keyword)]:
        raise PixelModuleInvalid(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    bits_stored = _integer(ds, "BitsStored")
    layout = PixelLayout(
        rows=_integer(ds, "Rows"),
        columns=_integer(ds, "Columns"),
        samples=_integer(ds, "SamplesPerPixel"),
        bits_allocated=_integer(ds, "BitsAllocated"),
        bits_stored=bits_stored,
        high_bit=_integer(ds, "HighBit", bits_stored - 1),
        signed=_integer(ds, "PixelRepresentation") == 1,
        frames=_integer(ds, "NumberOfFrames", 1) or 1,
        photometric=term(ds, "PhotometricInterpretation"),
    )
    _check_size(layout, limits)
    _check_samples(layout)
    return layout


def _integer(ds: Dataset, keyword: str, default: int | None = None) -> int:
    if default is not None and is_empty(ds, keyword):
        return default
    value = number(ds, keyword)
    if value is None or value != int(value) or value < 0:
        raise PixelModuleInvalid(f"{name_of(keyword)} is not a count")
    return int(value)


def _check_size(layout: PixelLayout, limits: PixelLimits) -> None:
    if not layout.rows or not layout.columns:
        raise PixelModuleInvalid(f"the image has {layout.rows} rows and {layout.columns} columns")
    pixels = layout.rows * layout.columns
    if pixels > limits.maximum_pixels_per_frame:
        raise PixelsTooLarge(
            f"{layout.rows} x {layout.columns} pixels are declared, the limit is "
            f"{limits.maximum_pixels_per_frame} pixels a frame"
        )
    if layout.frames > limits.maximum_frames:
        raise PixelsTooLarge(f"{layout.frames} frames are declared, the limit is {limits.maximum_frames}")
    total = layout.frame_bytes * layout.frames
    if total > limits.maximum_total_bytes:
        raise PixelsTooLarge(f"{total} bytes of pixels are declared, the limit is {limits.maximum_total_bytes}")


def _check_samples(layout: PixelLayout) -> None:
    expected = 1 if layout.photometric in ONE_SAMPLE else 3 if layout.photometric in THREE_SAMPLES else None
    if expected is None:
        word = layout.photometric if layout.photometric in OTHER_TERMS else "unknown or missing"
        raise PixelModuleInvalid(f"the photometric interpretation is {word}: not a radiograph's")
    if layout.samples != expected:
        raise PixelModuleInvalid(f"{layout.photometric} has {expected} samples a pixel, {layout.samples} are declared")
    if layout.bits_allocated not in {8, 16}:
        raise PixelModuleInvalid(f"{layout.bits_allocated} bits allocated: a radiograph has 8 or 16")
    # PS3.5 8.1.1: the stored bits lie within the allocated ones, their highest at HighBit
    if not 1 <= layout.bits_stored <= layout.high_bit + 1 <= layout.bits_allocated:
        raise PixelModuleInvalid(
            f"{layout.bits_stored} bits stored with high bit {layout.high_bit} do not fit {layout.bits_allocated} bits"
        )


def check_native_length(layout: PixelLayout, actual_bytes: int) -> None:
    """Check that native pixel data is as long as declared (PS3.5 8.1.1, A.1); padding at the end is allowed.

    Raises
    ------
    PixelDataTruncated
        When bytes are missing.
    """
    expected = layout.frame_bytes * layout.frames
    if layout.photometric == "YBR_FULL_422":
        expected = expected * 2 // 3  # two of three samples are kept for half of the pixels (PS3.3 C.7.6.3.1.2)
    if actual_bytes < expected:
        raise PixelDataTruncated(f"{expected} bytes of pixels are declared, {actual_bytes} are there")
