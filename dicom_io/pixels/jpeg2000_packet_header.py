"""The header of a JPEG 2000 packet, bit by bit: which code-blocks get how many bytes (ISO/IEC 15444-1 B.9, B.10)."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_io.pixels.codestream import DamagedCodestream
from dicom_io.pixels.jpeg2000_header import HIGH_THROUGHPUT, CodeBlock

_SOP, _EPH = b"\xff\x91", b"\xff\x92"
_BYPASS, _TERMINATE_ALL = 0x01, 0x04


@dataclass(slots=True)
class Precinct:
    """The code-blocks of one precinct by band, with the tag trees of their inclusion and their zero bit-planes."""

    bands: list[tuple[list[CodeBlock], TagTree, TagTree]]


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


class TagTree:
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


def read_packet(data: bytes, offset: int, layer: int, precinct: Precinct, style: int) -> int:
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
    if block.passes + passes > max(1, 3 * (block.planes - block.zero_planes) - 2) and not style & HIGH_THROUGHPUT:
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
    if style & HIGH_THROUGHPUT:
        return 1 if done % 3 == 0 else 3 - done % 3
    if style & _BYPASS:
        if done < 10:
            return 10 - done
        return 2 - (done - 10) % 3 if (done - 10) % 3 < 2 else 1
    return 1 << 16
