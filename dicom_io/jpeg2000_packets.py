"""The packets of a JPEG 2000 codestream: what each code-block was given, read without decoding it.

A tile's data are packets, one behind the other; each has a header in bits that says how many bytes of which code-blocks
follow (ISO/IEC 15444-1 Annex B). A decoder that meets a damaged one goes on with noise and says nothing. Read strictly,
the packets must end where the tile does, and no code-block can have more bit-planes than its band.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, product

from dicom_io.codestream import DamagedCodestream

_SOC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9
_SIZ, _COD, _COC, _QCD, _QCC, _RGN = 0xFF51, 0xFF52, 0xFF53, 0xFF5C, 0xFF5D, 0xFF5E
_POC, _PPM, _PPT = 0xFF5F, 0xFF60, 0xFF61
_SOP, _EPH = b"\xff\x91", b"\xff\x92"
_BYPASS, _TERMINATE_ALL, _HIGH_THROUGHPUT = 0x01, 0x04, 0x40
_MOST_CODE_BLOCKS = 1 << 17
"""Of a frame; 80 million pixels in blocks of 32 x 32 have 80,000, and a header may declare blocks of 4 x 4."""


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
class _Coding:
    progression: int = 0
    layers: int = 1
    transformed: bool = False
    styles: dict[int, Style] = field(default_factory=dict)
    quantizations: dict[int, Quantization] = field(default_factory=dict)
    shifts: dict[int, int] = field(default_factory=dict)

    def copy(self) -> _Coding:
        return _Coding(
            self.progression,
            self.layers,
            self.transformed,
            dict(self.styles),
            dict(self.quantizations),
            dict(self.shifts),
        )

    def style(self, component: int) -> Style:
        return self.styles.get(component, self.styles[-1])

    def quantization(self, component: int) -> Quantization:
        return self.quantizations.get(component, self.quantizations[-1])


@dataclass(frozen=True, slots=True)
class _Size:
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


def read_packets(codestream: bytes) -> Codestream:
    """Read the packets of a whole codestream (`codestream.whole_jpeg2000`).

    Raises
    ------
    DamagedCodestream
        When they are not what the headers say.
    UnusualCodestream
        When the codestream has packet headers elsewhere, changes of progression or blocks beyond count.
    """
    try:
        return _read(codestream)
    except (LookupError, struct.error, ValueError) as error:
        raise DamagedCodestream("a packet says what cannot be") from error


def _read(content: bytes) -> Codestream:
    size: _Size | None = None
    coding, offset, uniform = _Coding(), 2, True
    tiles: dict[int, tuple[_Coding, list[bytes]]] = {}
    while (marker := _word(content, offset)) != _EOC:
        length = _word(content, offset + 2)
        if marker == _SOT:
            number, part_length = struct.unpack_from(">HI", content, offset + 4)
            end = offset + part_length if part_length else len(content) - 2
            own, pieces = tiles.setdefault(number, (coding.copy(), []))
            at = offset + 2 + length
            while (inner := _word(content, at)) != _SOD:
                uniform = uniform and inner not in {_COD, _COC, _QCD, _QCC, _RGN}
                _read_segment(own, inner, content[at + 4 : at + 2 + _word(content, at + 2)], size)
                at += 2 + _word(content, at + 2)
            pieces.append(content[at + 2 : end])
            offset = end
            continue
        parameters = content[offset + 4 : offset + 2 + length]
        if marker == _SIZ:
            size = _read_size(parameters)
        else:
            _read_segment(coding, marker, parameters, size)
        offset += 2 + length
    if size is None:
        raise DamagedCodestream("its size is missing")
    across, down = (
        -(-(size.right - size.tile_left) // size.tile_width),
        -(-(size.bottom - size.tile_top) // size.tile_height),
    )
    if len(tiles) != across * down or max(tiles) >= len(tiles):
        raise DamagedCodestream("a tile is missing")
    uniform = uniform and set(size.steps) == {(1, 1)} and not coding.shifts
    styles = [coding.style(component) for component in range(len(size.depths))]
    area = (size.left, size.top, size.right, size.bottom)
    depth = size.depths[0]
    found = Codestream(area, [], styles, uniform, (depth & 0x7F) + 1, depth >= 0x80)
    for number, (own, pieces) in sorted(tiles.items()):
        left = size.tile_left + number % across * size.tile_width
        top = size.tile_top + number // across * size.tile_height
        found.tiles.append((
            max(left, size.left), max(top, size.top),
            min(left + size.tile_width, size.right), min(top + size.tile_height, size.bottom),
        ))  # fmt: skip
        _read_tile(b"".join(pieces), own, size, found)
    return found


def _word(content: bytes, offset: int) -> int:
    value: int = struct.unpack_from(">H", content, offset)[0]
    return value


def _read_size(parameters: bytes) -> _Size:
    numbers = struct.unpack_from(">8IH", parameters, 2)
    parts = [struct.unpack_from(">BBB", parameters, 36 + 3 * number) for number in range(numbers[8])]
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, _ = numbers
    return _Size(
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


def _read_segment(coding: _Coding, marker: int, parameters: bytes, size: _Size | None) -> None:
    wide = size is not None and len(size.depths) > 256
    if marker in {_POC, _PPM, _PPT} or wide:
        raise UnusualCodestream
    if marker == _COD:
        coding.progression, coding.layers, mixed = struct.unpack_from(">BHB", parameters, 1)
        coding.transformed = bool(mixed)
        coding.styles[-1] = _read_style(parameters[0], parameters[5:])
    elif marker == _COC:
        coding.styles[parameters[0]] = _read_style(parameters[1], parameters[2:])
    elif marker == _QCD:
        coding.quantizations[-1] = _read_quantization(parameters)
    elif marker == _QCC:
        coding.quantizations[parameters[0]] = _read_quantization(parameters[1:])
    elif marker == _RGN:
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


@dataclass(slots=True)
class _Precinct:
    """The code-blocks of one precinct by band, with the tag trees of their inclusion and their zero bit-planes."""

    bands: list[tuple[list[CodeBlock], _TagTree, _TagTree]]


def _read_tile(data: bytes, coding: _Coding, size: _Size, found: Codestream) -> None:
    tile, order = found.tiles[-1], []
    for component, (step_x, step_y) in enumerate(size.steps):
        style, quantization = coding.style(component), coding.quantization(component)
        left, top = -(-tile[0] // step_x), -(-tile[1] // step_y)
        right, bottom = -(-tile[2] // step_x), -(-tile[3] // step_y)
        if len(found.blocks) + ((right - left) * (bottom - top) >> style.width + style.height) > _MOST_CODE_BLOCKS:
            raise UnusualCodestream
        for resolution in range(style.levels + 1):
            scale = style.levels - resolution
            area = tuple(-(-edge // (1 << scale)) for edge in (left, top, right, bottom))
            wide, high = style.precincts[resolution]
            if area[2] <= area[0] or area[3] <= area[1]:
                continue
            columns = range(area[0] >> wide, -(-area[2] // (1 << wide)))
            rows = range(area[1] >> high, -(-area[3] // (1 << high)))
            if len(rows) * len(columns) > _MOST_CODE_BLOCKS:
                raise UnusualCodestream
            for row, column in product(rows, columns):
                precinct = _precinct(
                    tile=len(found.tiles) - 1,
                    component=component,
                    resolution=resolution,
                    style=style,
                    quantization=quantization,
                    shift=coding.shifts.get(component, 0),
                    area=(left, top, right, bottom),
                    cell=(column << wide, row << high, (column + 1) << wide, (row + 1) << high),
                )
                found.blocks += [block for blocks, _, _ in precinct.bands for block in blocks]
                if len(found.blocks) > _MOST_CODE_BLOCKS:
                    raise UnusualCodestream
                y = max(tile[1], (row << high + scale) * step_y)
                x = max(tile[0], (column << wide + scale) * step_x)
                order.append((resolution, y, x, component, precinct))
    keys = {
        0: lambda each: (each[0], each[3], each[1], each[2]),
        1: lambda each: (each[0], each[3], each[1], each[2]),
        2: lambda each: (each[0], each[1], each[2], each[3]),
        3: lambda each: (each[1], each[2], each[3], each[0]),
        4: lambda each: (each[3], each[1], each[2], each[0]),
    }
    order.sort(key=keys[coding.progression])
    offset = 0
    for layer, precinct, style_of in _packets(order, coding):
        offset = _read_packet(data, offset, layer, precinct, style_of)
    if offset != len(data):
        raise DamagedCodestream("its packets do not end with their tile")


def _packets(
    order: list[tuple[int, int, int, int, _Precinct]], coding: _Coding
) -> Iterator[tuple[int, _Precinct, int]]:
    """Yield layer, precinct and code-block style of each packet in the order of the progression (B.12)."""
    if coding.progression == 0:
        groups = [order]
    elif coding.progression == 1:
        groups = [list(group) for _, group in groupby(order, key=lambda each: each[0])]
    else:
        groups = [[each] for each in order]
    for group in groups:
        for layer in range(coding.layers):
            for _, _, _, component, precinct in group:
                yield layer, precinct, coding.style(component).style


def _precinct(
    *,
    tile: int,
    component: int,
    resolution: int,
    style: Style,
    quantization: Quantization,
    shift: int,
    area: tuple[int, int, int, int],
    cell: tuple[int, int, int, int],
) -> _Precinct:
    """Lay out a precinct's code-blocks (B.5 to B.7); `area` is the tile-component, `cell` the precinct's own edges."""
    level = style.levels - resolution + (resolution > 0)
    wide, high = style.precincts[resolution]
    half = int(resolution > 0)
    block_width, block_height = min(style.width, wide - half), min(style.height, high - half)
    if block_width < 0 or block_height < 0:
        raise DamagedCodestream("a precinct is smaller than a code-block")
    bands = []
    for band in (1, 2, 3) if resolution else (0,):
        across, down = (band & 1) << level >> 1, (band >> 1) << level >> 1
        left, right = (max(0, -(-(edge - across) // (1 << level))) for edge in (area[0], area[2]))
        top, bottom = (max(0, -(-(edge - down) // (1 << level))) for edge in (area[1], area[3]))
        left, right = max(left, cell[0] >> half), min(right, cell[2] >> half)
        top, bottom = max(top, cell[1] >> half), min(bottom, cell[3] >> half)
        planes = _planes(quantization, style.levels, resolution, band) + shift
        blocks: list[CodeBlock] = []
        columns = rows = range(0)
        if left < right and top < bottom:
            columns = range(left >> block_width, -(-right // (1 << block_width)))
            rows = range(top >> block_height, -(-bottom // (1 << block_height)))
        if len(columns) * len(rows) > _MOST_CODE_BLOCKS:
            raise UnusualCodestream
        for row, column in product(rows, columns):
            blocks.append(
                CodeBlock(
                    tile,
                    component,
                    level,
                    band,
                    max(left, column << block_width),
                    max(top, row << block_height),
                    min(right, (column + 1) << block_width),
                    min(bottom, (row + 1) << block_height),
                    planes,
                )
            )
        bands.append((blocks, _TagTree(len(columns), len(rows)), _TagTree(len(columns), len(rows))))
    return _Precinct(bands)


def _planes(quantization: Quantization, levels: int, resolution: int, band: int) -> int:
    """Return the bit-planes of a band (E.1): guard bits and its exponent, less one."""
    if quantization.derived:
        exponent = quantization.exponents[0] - max(0, resolution - 1)
    else:
        exponent = quantization.exponents[0 if not resolution else 3 * (resolution - 1) + band]
    return quantization.guard + exponent - 1


class _Bits:
    """The bits of a packet header; after a byte FF the next one has seven (B.10.1)."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data, self.offset = data, offset
        self._byte, self._left = 0, 0

    def bit(self) -> int:
        if not self._left:
            self._left = 7 if self._byte == 0xFF else 8
            self._byte = self._data[self.offset]
            self.offset += 1
            if self._left == 7 and self._byte & 0x80:
                raise DamagedCodestream("a packet header has a byte that it cannot have")
        self._left -= 1
        return self._byte >> self._left & 1

    def bits(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self.bit()
        return value

    def end(self) -> int:
        """Return where the header ends: at a whole byte, and not behind FF."""
        if self._byte == 0xFF:
            self.offset += 1
        return self.offset


class _TagTree:
    """A tag tree (B.10.2): the smallest values of ever larger squares, each sent once."""

    def __init__(self, width: int, height: int) -> None:
        self._sizes = [(width, height)]
        while self._sizes[-1][0] * self._sizes[-1][1] > 1:
            self._sizes.append((-(-self._sizes[-1][0] // 2), -(-self._sizes[-1][1] // 2)))
        self._low = [[0] * (w * h) for w, h in self._sizes]
        self._known = [[False] * (w * h) for w, h in self._sizes]

    def is_below(self, bits: _Bits, index: int, threshold: int) -> bool:
        """Read on until it is known whether the value of a leaf is below the threshold."""
        width = self._sizes[0][0]
        x, y, low = index % width, index // width, 0
        for depth in reversed(range(len(self._sizes))):
            place = (y >> depth) * self._sizes[depth][0] + (x >> depth)
            lows, known = self._low[depth], self._known[depth]
            low = max(low, lows[place])
            while low < threshold and not known[place]:
                if bits.bit():
                    known[place] = True
                else:
                    low += 1
            lows[place] = low
        return self._known[0][index] and low < threshold


def _read_packet(data: bytes, offset: int, layer: int, precinct: _Precinct, style: int) -> int:
    """Read one packet (B.9, B.10); return where the next one begins."""
    if data[offset : offset + 2] == _SOP:
        offset += 6
    bits, body = _Bits(data, offset), 0
    if bits.bit():
        for blocks, inclusion, zero_planes in precinct.bands:
            for index, block in enumerate(blocks):
                if not (bits.bit() if block.passes else inclusion.is_below(bits, index, layer + 1)):
                    continue
                if not block.passes:
                    block.zero_planes = 0
                    while not zero_planes.is_below(bits, index, block.zero_planes + 1):
                        block.zero_planes += 1
                        if block.zero_planes > block.planes:
                            raise DamagedCodestream("a code-block has more bit-planes than its band")
                body += _read_lengths(bits, block, style)
    offset = bits.end()
    if data[offset : offset + 2] == _EPH:
        offset += 2
    if offset + body > len(data):
        raise DamagedCodestream("a packet is longer than its tile")
    return offset + body


def _read_lengths(bits: _Bits, block: CodeBlock, style: int) -> int:
    """Read how many coding passes a code-block gets from a packet, and how many bytes (B.10.6, B.10.7)."""
    passes = _read_passes(bits)
    if block.passes + passes > max(1, 3 * (block.planes - block.zero_planes) - 2) and not style & _HIGH_THROUGHPUT:
        raise DamagedCodestream("a code-block has more coding passes than its bit-planes have")
    while bits.bit():
        block.length_bits += 1
        if block.length_bits > 32:
            raise DamagedCodestream("a code-block's length cannot be")
    length = 0
    while passes:
        together = min(passes, _passes_to_termination(block.passes, style))
        length += bits.bits(block.length_bits + together.bit_length() - 1)
        block.passes += together
        passes -= together
    block.length += length
    return length


def _read_passes(bits: _Bits) -> int:
    """Read a number of coding passes (Table B.4)."""
    if not bits.bit():
        return 1
    if not bits.bit():
        return 2
    if (value := bits.bits(2)) < 3:
        return 3 + value
    if (value := bits.bits(5)) < 31:
        return 6 + value
    return 37 + bits.bits(7)


def _passes_to_termination(done: int, style: int) -> int:
    """Return how many passes from this one on share a length (D.4.2, D.6; ISO/IEC 15444-15 for high throughput)."""
    if style & _TERMINATE_ALL:
        return 1
    if style & _HIGH_THROUGHPUT:
        return 1 if done % 3 == 0 else 3 - done % 3
    if style & _BYPASS:
        if done < 10:
            return 10 - done
        return 2 - (done - 10) % 3 if (done - 10) % 3 < 2 else 1
    return 1 << 16
