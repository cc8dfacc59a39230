"""RLE Lossless decoded strictly: every segment holds exactly the bytes of its plane (PS3.5 Annex G)."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from dicom_io.pixels.codestream import DamagedCodestream
from dicom_io.pixels.limits import PixelLayout

_HEADER_BYTES = 64
_MOST_PADDING_BYTES = 3
"""Behind a segment: one byte makes it even (G.3.1); some writers fill up to four."""


def decode_run_length(frame: bytes, layout: PixelLayout) -> NDArray[np.integer]:
    """Return the samples of an RLE frame, uint8 or uint16, shape (rows, columns) or (rows, columns, samples).

    Raises
    ------
    DamagedCodestream
        When the header or a segment does not hold what the image needs.
    """
    planes = layout.samples * (layout.bits_allocated // 8)
    if len(frame) < _HEADER_BYTES:
        raise DamagedCodestream("its header is cut off")
    count, *offsets = struct.unpack_from("<16L", frame)
    if count != planes:
        raise DamagedCodestream(f"it has {count} segments, the image has {planes}")
    ends = [*offsets[1:count], len(frame)]
    pixels = layout.rows * layout.columns
    samples = np.zeros((layout.samples, pixels), np.uint16)
    for number, (start, end) in enumerate(zip(offsets, ends, strict=False)):
        if not _HEADER_BYTES <= start < end <= len(frame):
            raise DamagedCodestream("its segments do not follow one another")
        plane = np.frombuffer(_decode_segment(frame[start:end], pixels), np.uint8)
        # The most significant byte of a sample has the first of its segments (G.2)
        sample, byte = divmod(number, layout.bits_allocated // 8)
        samples[sample] |= plane.astype(np.uint16) << 8 * (layout.bits_allocated // 8 - 1 - byte)
    shape = (layout.rows, layout.columns, layout.samples)[: 2 if layout.samples == 1 else 3]
    return samples.T.reshape(shape)


def _decode_segment(segment: bytes, pixels: int) -> bytes:
    """Return the bytes of one segment (G.3.2)."""
    pieces, length, at = [], 0, 0
    try:
        while length < pixels:
            control = segment[at]
            if control < 128:
                piece = segment[at + 1 : at + 2 + control]
                at += 2 + control
            elif control > 128:
                piece = segment[at + 1 : at + 2] * (257 - control)
                at += 2
            else:
                at += 1
                continue
            pieces.append(piece)
            length += len(piece)
    except IndexError:
        raise DamagedCodestream("a segment ends before its plane does") from None
    if length != pixels or at > len(segment):
        raise DamagedCodestream("a segment holds more than its plane")
    if len(segment) - at > _MOST_PADDING_BYTES:
        raise DamagedCodestream("a plane ends before its segment does")
    return b"".join(pieces)
