"""The packets of a JPEG 2000 codestream: what each code-block was given, read without decoding it.

A tile's data are packets, one behind the other; each has a header in bits that says how many bytes of which code-blocks
follow (ISO/IEC 15444-1 Annex B). A decoder that meets a damaged one goes on with noise and says nothing. Read strictly,
the packets must end where the tile does, and no code-block can have more bit-planes than its band.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import groupby, product

from dicom_io.pixels.codestream import DamagedCodestream
from dicom_io.pixels.jpeg2000_header import (
    COC,
    COD,
    QCC,
    QCD,
    RGN,
    SIZ,
    CodeBlock,
    Codestream,
    Coding,
    Quantization,
    Size,
    Style,
    UnusualCodestream,
    read_segment,
    read_size,
    word,
)
from dicom_io.pixels.jpeg2000_packet_header import Precinct, TagTree, read_packet

_SOC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9
_MOST_CODE_BLOCKS = 1 << 17
"""Of a frame; 80 million pixels in blocks of 32 x 32 have 80,000, and a header may declare blocks of 4 x 4."""


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
    size: Size | None = None
    coding, offset, uniform = Coding(), 2, True
    tiles: dict[int, tuple[Coding, list[bytes]]] = {}
    while (marker := word(content, offset)) != _EOC:
        length = word(content, offset + 2)
        if marker == _SOT:
            number, part_length = struct.unpack_from(">HI", content, offset + 4)
            end = offset + part_length if part_length else len(content) - 2
            own, pieces = tiles.setdefault(number, (coding.copy(), []))
            at = offset + 2 + length
            while (inner := word(content, at)) != _SOD:
                uniform = uniform and inner not in {COD, COC, QCD, QCC, RGN}
                read_segment(own, inner, content[at + 4 : at + 2 + word(content, at + 2)], size)
                at += 2 + word(content, at + 2)
            pieces.append(content[at + 2 : end])
            offset = end
            continue
        parameters = content[offset + 4 : offset + 2 + length]
        if marker == SIZ:
            size = read_size(parameters)
        else:
            read_segment(coding, marker, parameters, size)
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


def _read_tile(data: bytes, coding: Coding, size: Size, found: Codestream) -> None:
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
        offset = read_packet(data, offset, layer, precinct, style_of)
    if offset != len(data):
        raise DamagedCodestream("its packets do not end with their tile")


def _packets(order: list[tuple[int, int, int, int, Precinct]], coding: Coding) -> Iterator[tuple[int, Precinct, int]]:
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
) -> Precinct:
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
        bands.append((blocks, TagTree(len(columns), len(rows)), TagTree(len(columns), len(rows))))
    return Precinct(bands)


def _planes(quantization: Quantization, levels: int, resolution: int, band: int) -> int:
    """Return the bit-planes of a band (E.1): guard bits and its exponent, less one."""
    if quantization.derived:
        exponent = quantization.exponents[0] - max(0, resolution - 1)
    else:
        exponent = quantization.exponents[0 if not resolution else 3 * (resolution - 1) + band]
    return quantization.guard + exponent - 1
