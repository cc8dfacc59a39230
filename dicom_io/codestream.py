"""The size that a compressed frame declares for itself, read without decoding it.

JPEG and JPEG-LS say it in the frame header (SOF, ISO/IEC 10918-1 B.2.2, ISO/IEC 14495-1 C.2.2), JPEG 2000 and its
high-throughput form in the SIZ marker segment (ISO/IEC 15444-1 A.5.1). RLE says nothing: its decoder is told the size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

# ISO/IEC 10918-1 Table B.1: the markers of frames; C4, C8 and CC are other things. F7 is JPEG-LS.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_PROGRESSIVE_MARKERS = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
END_MARKER = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "


@dataclass(frozen=True, slots=True)
class CodestreamSize:
    """What a codestream declares; `precision` is bits a sample, `progressive` a JPEG of many passes."""

    rows: int
    columns: int
    samples: int
    precision: int
    progressive: bool = False


def jpeg_size(frame: bytes) -> CodestreamSize | None:
    """Return the size in a JPEG or JPEG-LS codestream, None where there is no frame header before the first scan."""
    if frame[:2] != b"\xff\xd8":
        return None
    offset = 2
    while offset + 4 <= len(frame):
        if frame[offset] != 0xFF:
            return None
        marker = frame[offset + 1]
        if marker == 0xFF:  # fill bytes may precede a marker (B.1.1.2)
            offset += 1
            continue
        if marker in {_START_OF_SCAN, _END_OF_IMAGE}:
            return None
        if marker in _FRAME_MARKERS:
            if offset + 10 > len(frame):
                return None
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, offset + 4)
            return CodestreamSize(rows, columns, samples, precision, marker in _PROGRESSIVE_MARKERS)
        offset += 2 + int.from_bytes(frame[offset + 2 : offset + 4], "big")
    return None


def jpeg2000_size(frame: bytes) -> CodestreamSize | None:
    """Return the size in a JPEG 2000 codestream, None where it does not begin with SOC and SIZ.

    PS3.5 A.4.4 forbids the JP2 file format around the codestream; some writers add it all the same.
    """
    start = _jp2_codestream_start(frame) if frame.startswith(_JP2_SIGNATURE) else 0
    if start is None or frame[start : start + 4] != b"\xff\x4f\xff\x51" or start + 45 > len(frame):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", frame, start + 8)
    samples, depth = struct.unpack_from(">HB", frame, start + 40)
    # The highest bit of the depth is the sign, the others are the bits less one
    return CodestreamSize(bottom - top, right - left, samples, (depth & 0x7F) + 1)


def _jp2_codestream_start(frame: bytes) -> int | None:
    """Return where the codestream box begins among the boxes of a JP2 file (ISO/IEC 15444-1 I.4).

    A box that claims no length before it is refused: pydicom, which looks for the codestream as well, would walk on
    the spot for ever.
    """
    offset = len(_JP2_SIGNATURE) + 4
    while offset + 8 <= len(frame):
        length = int.from_bytes(frame[offset : offset + 4], "big")
        if frame[offset + 4 : offset + 8] == b"jp2c":
            return offset + 8
        if length < 8:
            return None
        offset += length
    return None
