"""What the headers of a JPEG 2000 codestream set, and what is read with them (ISO/IEC 15444-1 Annex A)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from dicom_io.pixels.codestream import DamagedCodestream

SIZ, COD, COC, QCD, QCC, RGN = 0xFF51, 0xFF52, 0xFF53, 0xFF5C, 0xFF5D, 0xFF5E
_POC, _PPM, _PPT = 0xFF5F, 0xFF60, 0xFF61
HIGH_THROUGHPUT = 0x40
"""The code-block style of high throughput (ISO/IEC 15444-15)."""


class UnusualCodestream(Exception):
    """The codestream uses a feature that is not read here."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a component is coded (COD, COC: A.6.1): levels of decomposition, code-block size as exponents, style."""

    levels: int
    width: int
    height: int
    style: int
    reversible: bool
    precincts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Quantization:
    """Guard bits and the exponent of each band (QCD, QCC: A.6.4)."""

    guard: int
    exponents: tuple[int, ...]
    derived: bool


@dataclass(slots=True)
class CodeBlock:
    """A code-block: where it lies in its band, on the band's own grid, and what the packets gave to it.

    `level` counts the decompositions, 1 the finest; `band` is 0 LL, 1 HL, 2 LH, 3 HH. `planes` are the band's
    bit-planes.
    """

    tile: int
    component: int
    level: int
    band: int
    left: int
    top: int
    right: int
    bottom: int
    planes: int
    zero_planes: int = -1
    passes: int = 0
    length: int = 0
    length_bits: int = 3


@dataclass(slots=True)
class Codestream:
    """What was read.

    `tiles` are left, top, right and bottom of each on the reference grid (B.2, B.3), `area` those of the image;
    `styles` are the components'. `uniform` says that every tile has the same, that no component is smaller than the
    image and that none is coded apart for a region of interest. `precision` (bits a sample) and `signed` are those of
    the first component.
    """

    area: tuple[int, int, int, int]
    tiles: list[tuple[int, int, int, int]]
    styles: list[Style]
    uniform: bool
    precision: int
    signed: bool
    blocks: list[CodeBlock] = field(default_factory=list)


@dataclass(slots=True)
class Coding:
    """What COD, QCD and their like say, for component -1 all that have no word of their own."""

    progression: int = 0
    layers: int = 1
    transformed: bool = False
    styles: dict[int, Style] = field(default_factory=dict)
    quantizations: dict[int, Quantization] = field(default_factory=dict)
    shifts: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Coding:
        """Return another that a tile may change."""
        return Coding(
            self.progression,
            self.layers,
            self.transformed,
            dict(self.styles),
            dict(self.quantizations),
            dict(self.shifts),
        )

    def style(self, component: int) -> Style:
        """Return the style of a component."""
        return self.styles.get(component, self.styles[-1])

    def quantization(self, component: int) -> Quantization:
        """Return the quantization of a component."""
        return self.quantizations.get(component, self.quantizations[-1])


@dataclass(frozen=True, slots=True)
class Size:
    """The reference grid (SIZ: A.5.1); `depths` as written, bits less one and the sign; `steps` across and down."""

    right: int
    bottom: int
    left: int
    top: int
    tile_width: int
    tile_height: int
    tile_left: int
    tile_top: int
    depths: tuple[int, ...]
    steps: tuple[tuple[int, int], ...]


def word(content: bytes, offset: int) -> int:
    """Return two bytes as a number."""
    value: int = struct.unpack_from(">H", content, offset)[0]
    return value


def read_size(parameters: bytes) -> Size:
    """Read a SIZ marker segment."""
    numbers = struct.unpack_from(">8IH", parameters, 2)
    parts = [struct.unpack_from(">BBB", parameters, 36 + 3 * number) for number in range(numbers[8])]
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, _ = numbers
    return Size(
        right,
        bottom,
        left,
        top,
        tile_width,
        tile_height,
        tile_left,
        tile_top,
        depths=tuple(part[0] for part in parts),
        steps=tuple((part[1], part[2]) for part in parts),
    )


def read_segment(coding: Coding, marker: int, parameters: bytes, size: Size | None) -> None:
    """Take up what a marker segment behind SIZ says."""
    wide = size is not None and len(size.depths) > 256
    if marker in {_POC, _PPM, _PPT} or wide:
        raise UnusualCodestream
    if marker == COD:
        coding.progression, coding.layers, mixed = struct.unpack_from(">BHB", parameters, 1)
        coding.transformed = bool(mixed)
        coding.styles[-1] = _read_style(parameters[0], parameters[5:])
    elif marker == COC:
        coding.styles[parameters[0]] = _read_style(parameters[1], parameters[2:])
    elif marker == QCD:
        coding.quantizations[-1] = _read_quantization(parameters)
    elif marker == QCC:
        coding.quantizations[parameters[0]] = _read_quantization(parameters[1:])
    elif marker == RGN:
        coding.shifts[parameters[0]] = parameters[2]


def _read_style(flags: int, parameters: bytes) -> Style:
    levels, width, height, style, transformation = parameters[:5]
    sizes = parameters[5 : 6 + levels] if flags & 1 else bytes([0xFF]) * (levels + 1)
    precincts = tuple((each & 15, each >> 4) for each in sizes)
    if levels > 32 or width > 8 or height > 8 or width + height > 8 or len(precincts) != levels + 1:
        raise DamagedCodestream("its coding style cannot be")
    return Style(levels, width + 2, height + 2, style, transformation == 1, precincts)


def _read_quantization(parameters: bytes) -> Quantization:
    kind, guard = parameters[0] & 31, parameters[0] >> 5
    if kind == 0:
        return Quantization(guard, tuple(each >> 3 for each in parameters[1:]), derived=False)
    steps = struct.unpack(f">{len(parameters) // 2}H", parameters[1:])
    return Quantization(guard, tuple(each >> 11 for each in steps), derived=kind == 1)
