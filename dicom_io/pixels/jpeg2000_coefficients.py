"""JPEG 2000 decoded strictly: what was decoded is coded again and must take the same bytes.

The arithmetic decoder of JPEG 2000 makes coefficients of whatever bytes it gets, and nothing in them says that they
are the right ones. But coding is deterministic: the coefficients of a code-block, coded again, take as many bytes as
they came in, to a few that a coder may save at the end (ISO/IEC 15444-1 C.2.9, D.4.2). Of damaged bytes the decoder
uses more or fewer than there are, and the block's length betrays it, mostly by hundreds of bytes.

To have the coefficients themselves, the header is changed before decoding: no quantization, the reversible transform,
no mixing of components, and room for every value. Then the decoder does not round, and what it gives can be coded
again.
"""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dicom_io.pixels.codestream import DamagedCodestream, whole_jpeg2000
from dicom_io.pixels.jpeg2000_header import (
    COC,
    COD,
    HIGH_THROUGHPUT,
    QCC,
    QCD,
    SIZ,
    CodeBlock,
    Codestream,
    Style,
    UnusualCodestream,
)
from dicom_io.pixels.jpeg2000_packets import read_packets

_SOT = 0xFF90
_SIGNED_28_BITS = 0x80 | 27
_STYLES = frozenset({0, HIGH_THROUGHPUT})
_MOST_DIFFERENCE = 8
"""Bytes. Between coders of five makers up to 4 were seen."""

_MOST_DIFFERENCE_OF_HALF_PLANES = 64
"""Bytes more where a plane has some of its passes: the others, all zeros or all ones, are coded too. Seen were 19."""


def decode_jpeg2000(codestream: bytes) -> NDArray[np.integer]:
    """Return the samples of a whole codestream (`codestream.whole_jpeg2000`), shape (rows, columns[, samples]).

    What cannot be coded again here is decoded all the same: styles and regions that no radiograph was seen with, and
    coefficients of more than 16 bits.

    Raises
    ------
    DamagedCodestream
        When its packets contradict themselves, or a code-block's bytes are not those of its coefficients.
    """
    try:
        packets = read_packets(codestream)
    except UnusualCodestream:
        return imagecodecs.jpeg2k_decode(codestream, numthreads=1)
    if not packets.uniform or any(style.style not in _STYLES for style in packets.styles):
        return imagecodecs.jpeg2k_decode(codestream, numthreads=1)
    values = imagecodecs.jpeg2k_decode(_unquantized(codestream, packets), numthreads=1)
    _check(values.reshape(*values.shape[:2], -1), packets)
    if len(packets.styles) > 1 or not packets.styles[0].reversible:
        return imagecodecs.jpeg2k_decode(codestream, numthreads=1)
    # The values of a reversible image of one component are its samples, before the shift to unsigned (G.1.2)
    white = 1 << packets.precision
    if packets.signed:
        return values.clip(-white // 2, white // 2 - 1)
    return (values + white // 2).clip(0, white - 1)


def _check(values: NDArray[np.int32], packets: Codestream) -> None:
    parts: dict[tuple[int, int], list[CodeBlock]] = {}
    for block in packets.blocks:
        if block.passes:
            parts.setdefault((block.tile, block.component), []).append(block)
    for (tile, component), blocks in parts.items():
        compared = blocks
        left, top, right, bottom = packets.tiles[tile]
        rows = slice(top - packets.area[1], bottom - packets.area[1])
        columns = slice(left - packets.area[0], right - packets.area[0])
        style, plane = packets.styles[component], values[rows, columns, component]
        is_whole = not any(_missing(block) for block in blocks)
        if not is_whole:
            if left % (1 << style.levels) or top % (1 << style.levels):
                continue
            plane = _without_missing_planes(plane.copy(), blocks, style.levels, (left, top))
        if plane.min() < -(1 << 15) or plane.max() >= 1 << 15:
            if style.reversible and is_whole and packets.precision + (len(packets.styles) > 1) <= 16:
                raise DamagedCodestream("its values are beyond those of its samples")
            # Another mean changes nothing but the lowest band, which is not compared then
            plane = plane - (int(plane.min()) + int(plane.max())) // 2
            compared = [block for block in blocks if block.band]
            if np.ptp(plane) >= (1 << 16) - 1:
                continue
        again = {_place(block): block for block in read_packets(_coded(plane, style, (left, top))).blocks}
        for block in compared:
            # Small precincts may cut code-blocks; those are not found again
            if _place(block) in again:
                _compare(block, again[_place(block)], style)


def _place(block: CodeBlock) -> tuple[int, ...]:
    return block.level, block.band, block.left, block.top, block.right, block.bottom


def _missing(block: CodeBlock) -> int:
    """Return how many of the lowest bit-planes a code-block has no pass of: one is of the first, three of each other.

    High throughput has one pass for all planes.
    """
    return max(0, block.planes - block.zero_planes - 1 - (block.passes + 1) // 3)


def _compare(block: CodeBlock, again: CodeBlock, style: Style) -> None:
    difference = again.length - block.length
    most = _MOST_DIFFERENCE + (0 if block.passes % 3 == 1 else _MOST_DIFFERENCE_OF_HALF_PLANES)
    planes = block.planes - block.zero_planes - _missing(block)
    is_alike = again.planes - again.zero_planes == planes or style.style == HIGH_THROUGHPUT
    if not -_MOST_DIFFERENCE <= difference <= most or not is_alike:
        raise DamagedCodestream("a code-block holds other bytes than its coefficients take")


def _unquantized(codestream: bytes, packets: Codestream) -> bytes:
    """Return the codestream with a header that makes a decoder take the coefficients for the reversible transform's."""
    pieces, offset = [codestream[:2]], 2
    while True:
        marker, length = struct.unpack_from(">HH", codestream, offset)
        if marker == _SOT:
            return b"".join([*pieces, codestream[offset:]])
        segment = bytearray(codestream[offset : offset + 2 + length])
        if marker == SIZ:
            segment[40::3] = bytes([_SIGNED_28_BITS]) * len(segment[40::3])
        elif marker == COD:
            segment[8], segment[13] = 0, 1
        elif marker == COC:
            segment[10] = 1
        elif marker in {QCD, QCC}:
            start = 4 if marker == QCD else 5
            levels = packets.styles[0 if marker == QCD else segment[4]].levels
            exponents = _exponents(bytes(segment[start:]), levels)
            guard = segment[start] & 0xE0
            head = segment[4:start] + bytes([guard]) + bytes(each << 3 for each in exponents)
            segment = bytearray(struct.pack(">HH", marker, 2 + len(head)) + head)
        pieces.append(bytes(segment))
        offset += 2 + length


def _exponents(parameters: bytes, levels: int) -> list[int]:
    """Return the exponent of each band (A.6.4)."""
    kind = parameters[0] & 31
    if kind == 0:
        return [each >> 3 for each in parameters[1:]]
    found = [each >> 11 for each in struct.unpack(f">{len(parameters) // 2}H", parameters[1:])]
    if kind == 1:  # derived from the first (equation E-5)
        found = [found[0], *(found[0] - max(0, level) for level in range(levels) for _ in range(3))]
    return found


def _coded(plane: NDArray[np.int32], style: Style, corner: tuple[int, int]) -> bytes:
    """Return a tile's coefficients, as the values whose reversible transform they are, coded as a codestream."""
    if style.style == HIGH_THROUGHPUT:
        return bytes(imagecodecs.htj2k_encode(plane.astype(np.int16), resolutions=style.levels, reversible=True))
    buffer = io.BytesIO()
    # Unsigned of 16 bits: the coder takes 2 ** 15 off again
    PIL.Image.fromarray((plane + (1 << 15)).astype(np.uint16)).save(
        buffer,
        "JPEG2000",
        no_jp2=True,  # the codestream alone
        irreversible=False,
        num_resolutions=style.levels + 1,
        codeblock_size=(1 << style.width, 1 << style.height),
        offset=corner,
        tile_size=(corner[0] + plane.shape[1], corner[1] + plane.shape[0]),
        tile_offset=(0, 0),
    )
    return whole_jpeg2000(buffer.getvalue())


def _without_missing_planes(
    plane: NDArray[np.int32], blocks: list[CodeBlock], levels: int, corner: tuple[int, int]
) -> NDArray[np.int32]:
    """Return a tile's values with those bit-planes taken out of each code-block that it has no pass of.

    The decoder put a half of the next plane there.
    """
    bands = _forward(plane, levels)
    for block in blocks:
        x, y = (edge >> block.level for edge in corner)
        own = bands[block.level, block.band][block.top - y : block.bottom - y, block.left - x : block.right - x]
        own[:] = np.sign(own) * (np.abs(own) >> _missing(block))
    return _inverse(bands, levels)


def _forward(plane: NDArray[np.int32], levels: int) -> dict[tuple[int, int], NDArray[np.int32]]:
    """Return the bands (level, band) of the reversible transform (F.4.8.1) of a plane that begins at an even place."""
    bands, low = {}, plane
    for level in range(1, levels + 1):
        upper, lower = _split(low)
        low, bands[level, 1] = (each.T for each in _split(upper.T))
        bands[level, 2], bands[level, 3] = (each.T for each in _split(lower.T))
    bands[levels, 0] = low
    return {place: np.ascontiguousarray(band) for place, band in bands.items()}


def _inverse(bands: dict[tuple[int, int], NDArray[np.int32]], levels: int) -> NDArray[np.int32]:
    low = bands[levels, 0]
    for level in range(levels, 0, -1):
        upper = _join(low.T, bands[level, 1].T).T
        lower = _join(bands[level, 2].T, bands[level, 3].T).T
        low = _join(upper, lower)
    return low


def _split(rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    if len(rows) == 1:
        return rows, rows[:0]
    low, high = rows[::2], rows[1::2]
    high = high - ((low[: len(high)] + _next(low, len(high))) >> 1)
    return low + ((_before(high, len(low)) + _padded(high, len(low)) + 2) >> 2), high


def _join(low: NDArray[np.int32], high: NDArray[np.int32]) -> NDArray[np.int32]:
    if not len(high):
        return low
    even = low - ((_before(high, len(low)) + _padded(high, len(low)) + 2) >> 2)
    joined = np.empty((len(low) + len(high), *low.shape[1:]), np.int32)
    joined[::2], joined[1::2] = even, high + ((even[: len(high)] + _next(even, len(high))) >> 1)
    return joined


def _next(rows: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Return the rows behind the first `count`, the last again where there is none (symmetric extension, F.3.7)."""
    return np.concatenate([rows[1:], rows[-1:]])[:count]


def _before(rows: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    return np.concatenate([rows[:1], rows])[:count]


def _padded(rows: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    return np.concatenate([rows, rows[-1:]])[:count]
