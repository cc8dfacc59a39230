"""The Huffman codes of a JPEG scan, read to the last without making a pixel (ISO/IEC 10918-1 F.2.2, H.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_io.pixels.codestream import DamagedCodestream

_STUFFED_OR_RESTART = re.compile(rb"\xff+([\x00\xd0-\xd7])", re.DOTALL)
# Writers put a byte or two between the last code and the marker; more of them is data that belonged to the image
_MOST_PADDING_BYTES = 8

# The word of a code: in the low byte the bits that it and its value take; above them, of an AC code, the coefficients
# that it covers, else the bits of its value
_BITS, _ABOVE = 0xFF, 8
_END_OF_BLOCK = 1_000
_NO_CODE = 1_000_000
BLOCK = 64
# So many bytes are looked at together, and behind them as much as may be read from one of them on: an MCU has ten
# blocks at most or four samples (B.2.3), a code and its value 32 bits
_CHUNK_BYTES = 1 << 18
_SAMPLES_AT_ONCE = 256
_BEHIND_CHUNK_BYTES = 4096

Words = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ScanData:
    """The compressed data of a scan: stuffing removed, and where in bits each restart interval begins and ends."""

    content: NDArray[np.uint8]
    intervals: list[tuple[int, int]]


def prepare(data: bytes) -> ScanData:
    """Take the stuffing and the restart markers out of the data (F.1.2.3)."""
    pieces, ends, at, length = [], [], 0, 0
    expected = 0
    for match in _STUFFED_OR_RESTART.finditer(data):
        kind = match[1][0]
        if kind == 0:
            if match.end() - match.start() != 2:
                raise DamagedCodestream("there is a byte where no data can have one")
            piece = data[at : match.start() + 1]
        else:
            piece = data[at : match.start()]
        pieces.append(piece)
        length += len(piece)
        at = match.end()
        if kind:
            if kind & 7 != expected:
                raise DamagedCodestream("a restart marker is missing")
            expected = (expected + 1) % 8
            ends.append(length)
    pieces.append(data[at:])
    ends.append(length + len(pieces[-1]))
    content = np.frombuffer(b"".join(pieces), np.uint8)
    starts = [0, *ends[:-1]]
    return ScanData(content, [(8 * start, 8 * end) for start, end in zip(starts, ends, strict=True)])


def code_words(table: bytes, *, ac: bool = False) -> Words:
    """Return for every 16 bits that may come the word of the code that they begin with (C.2, F.2.2.3)."""
    words = np.full(1 << 16, _NO_CODE << _ABOVE | _BITS, np.int32)
    code, place = 0, 16
    for length in range(1, 17):
        for _ in range(table[length - 1]):
            value = table[place]
            # The value 16 of a lossless scan has no bits (H.1.2.2)
            size = value & 15 if ac or value == 16 else value
            above = _covered(value) if ac else size if value <= 16 else _NO_CODE
            first, reach = code << 16 - length, 1 << 16 - length
            if first + reach > 1 << 16:
                raise DamagedCodestream("a Huffman table is malformed")
            words[first : first + reach] = above << _ABOVE | length + size
            code, place = code + 1, place + 1
        code <<= 1
    return words


def _covered(value: int) -> int:
    """Return how many coefficients of a block an AC code covers (F.1.2.2): a run of zeros and the one behind it."""
    run, size = value >> 4, value & 15
    if size:
        return run + 1
    return {0: _END_OF_BLOCK, 15: 16}.get(run, _NO_CODE)


class _Reader:
    """The words of the codes that begin at each bit of a chunk of the data, if one does; chunks follow one another."""

    def __init__(self, content: NDArray[np.uint8], tables: list[Words]) -> None:
        self._content = np.concatenate([content, np.zeros(_BEHIND_CHUNK_BYTES + 2, np.uint8)])
        self._tables = tables
        self._first, self._last = 0, -1
        self._views: list[memoryview] = []

    def at(self, position: int) -> tuple[int, list[memoryview]]:
        """Return the bit at which the chunk with this one begins, and the words by table."""
        if not self._first <= position <= self._last:
            self._load(position // 8)
        return self._first, self._views

    def _load(self, first: int) -> None:
        content = self._content[first : first + _CHUNK_BYTES + _BEHIND_CHUNK_BYTES].astype(np.uint32)
        three = content[:-2] << 16 | content[1:-1] << 8 | content[2:]
        windows = np.empty(8 * len(three), np.uint16)
        for bit in range(8):
            windows[bit::8] = three >> 8 - bit & 0xFFFF
        views = {id(table): table[windows].data for table in {id(t): t for t in self._tables}.values()}
        self._views = [views[id(table)] for table in self._tables]
        self._first, self._last = 8 * first, 8 * (first + _CHUNK_BYTES)


def _check_end(data: ScanData, position: int, end: int) -> None:
    """Check that an interval ends with its last code: what is left is padding (F.1.2.3)."""
    if position > end:
        raise DamagedCodestream("its compressed data end before the image does")
    left = np.unpackbits(data.content[position // 8 : end // 8])[position % 8 :]
    if len(left) >= 8 * _MOST_PADDING_BYTES:
        raise DamagedCodestream("the image ends before its compressed data do")
    bits, whole = left[: len(left) % 8], left[len(left) % 8 :]
    if any(part.any() and not part.all() for part in (bits, whole)):
        raise DamagedCodestream("its compressed data do not end with the image")


def check_samples(data: ScanData, counts: list[int], tables: list[Words]) -> None:
    """Read the differences of a lossless scan (H.2)."""
    advances = {id(t): (t & _BITS | np.where(t >> _ABOVE >= _NO_CODE, _NO_CODE, 0)).astype(np.int32) for t in tables}
    # Components mostly share a table: then their samples are one row of codes
    repeated = len(tables) if len(advances) == 1 else 1
    reader = _Reader(data.content, [advances[id(table)] for table in tables[repeated - 1 :]])
    for count, (start, end) in zip(counts, data.intervals, strict=True):
        position, left = start, count * repeated
        while left and position <= end:
            first, views = reader.at(position)
            at, number = position - first, min(left, _SAMPLES_AT_ONCE)
            if len(views) == 1:
                (advance,) = views
                for _ in range(number):
                    at += advance[at]
            else:
                for _ in range(number):
                    for advance in views:
                        at += advance[at]
            position, left = first + at, left - number
        _check_end(data, position, end)


def check_blocks(data: ScanData, counts: list[int], tables: list[tuple[Words, Words]]) -> NDArray[np.int64]:
    """Read the blocks of a scan (F.2.2); return the bits at which they begin."""
    reader = _Reader(data.content, [table for pair in tables for table in pair])
    starts: list[int] = []
    for count, (start, end) in zip(counts, data.intervals, strict=True):
        position = start
        for _ in range(count):
            first, views = reader.at(position)
            at = position - first
            for dc, ac in zip(views[::2], views[1::2], strict=True):
                starts.append(first + at)
                at += dc[at] & _BITS
                coefficient = 1
                while coefficient < BLOCK:
                    word = ac[at]
                    at += word & _BITS
                    coefficient += word >> _ABOVE
                if coefficient > BLOCK and not _END_OF_BLOCK < coefficient < _END_OF_BLOCK + BLOCK:
                    raise DamagedCodestream("a block has more coefficients than it can have")
            position = first + at
            if position > end:
                break
        _check_end(data, position, end)
    return np.array(starts, np.int64)


def check_brightness(data: ScanData, starts: NDArray[np.int64], counts: list[int], words: Words, limit: int) -> None:
    """Check that no block is beyond white or black: the DC coefficient is its mean (F.1.1.5, F.2.2.1)."""
    content = np.concatenate([data.content, np.zeros(6, np.uint8)]).astype(np.uint64)
    byte, bit = starts // 8, (starts % 8).astype(np.uint64)
    window = np.zeros(len(starts), np.uint64)
    for number in range(5):
        window |= content[byte + number] << np.uint64(56 - 8 * number)
    window <<= bit
    word = words[window >> np.uint64(48)]
    size = (word >> _ABOVE).astype(np.uint64)
    if (size > 15).any():
        raise DamagedCodestream("a code is in no table")
    window <<= (word & _BITS).astype(np.uint64) - size
    bits = (window >> np.uint64(1) >> (np.uint64(63) - size)).astype(np.int64)
    span = np.int64(1) << size.astype(np.int64)
    differences = np.where(2 * bits < span, bits - span + 1, bits)
    differences[size == 0] = 0
    for mean in np.split(differences, np.cumsum(counts)[:-1]):
        if np.abs(np.cumsum(mean)).max(initial=0) > limit:
            raise DamagedCodestream("a block is brighter than white or darker than black")
