"""What a compressed frame says of itself, read without decoding it: its size, and where it begins and ends.

JPEG and JPEG-LS give their size in the frame header (SOF, ISO/IEC 10918-1 B.2.2, ISO/IEC 14495-1 C.2.2), JPEG 2000 and
its high-throughput form in the SIZ marker segment (ISO/IEC 15444-1 A.5.1). RLE says nothing: its decoder is told.

The end is found by reading the markers from the first one on. Behind it anything may stand (padding, boxes of the JP2
file format); an end marker inside another segment, such as that of a small preview, is none.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

# ISO/IEC 10918-1 Table B.1: the markers of frames; C4, C8 and CC are other things. F7 is JPEG-LS.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_PROCESSES_IN_USE = frozenset({0xC0, 0xC1, 0xC3, 0xF7})  # baseline, extended, lossless, JPEG-LS
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
# A byte FF of the data is followed by 00 (B.1.1.5), in JPEG-LS by a byte below 80 (ISO/IEC 14495-1 A.1); restart
# markers stand among the data; fill bytes FF may precede a marker (B.1.1.2)
_MARKER_BEHIND_JPEG_DATA = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_MARKER_BEHIND_JPEG_LS_DATA = re.compile(rb"\xff+[\x80-\xcf\xd8-\xfe]", re.DOTALL)
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_START_OF_TILE_PART, _START_OF_DATA, _END_OF_CODESTREAM = b"\xff\x90", b"\xff\x93", b"\xff\xd9"


class DamagedCodestream(Exception):
    """A codestream is not the whole image; the message says what is wrong with it."""


class UnendedCodestream(DamagedCodestream):
    """There is no end marker where the codestream must have one."""


@dataclass(frozen=True, slots=True)
class CodestreamSize:
    """What a codestream declares: `precision` is bits a sample, `retired` a process that DICOM no longer uses."""

    rows: int
    columns: int
    samples: int
    precision: int
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker segment of a JPEG: `start` and `end` are those of its parameters, behind their length.

    Behind a start of scan stand the compressed data, up to `data_end`.
    """

    marker: int
    start: int
    end: int
    data_end: int


def jpeg_segments(frame: bytes, *, jpeg_ls: bool = False) -> Iterator[Segment]:
    """Yield the marker segments of a JPEG or JPEG-LS codestream up to the end of image, which is the last.

    Raises
    ------
    UnendedCodestream
        When the bytes end before the end of image, or something else than a marker stands where one must be.
    """
    behind_data = _MARKER_BEHIND_JPEG_LS_DATA if jpeg_ls else _MARKER_BEHIND_JPEG_DATA
    offset = 2
    while offset + 2 <= len(frame) and frame[offset] == 0xFF:
        marker = frame[offset + 1]
        if marker == 0xFF:
            offset += 1
            continue
        if marker == END_OF_IMAGE:
            yield Segment(marker, offset + 2, offset + 2, offset + 2)
            return
        length = int.from_bytes(frame[offset + 2 : offset + 4], "big")
        end = offset + 2 + length
        if length < 2 or end > len(frame):
            break
        following = behind_data.search(frame, end) if marker == START_OF_SCAN else None
        if marker == START_OF_SCAN and following is None:
            break
        data_end = end if following is None else following.start()
        yield Segment(marker, offset + 4, end, data_end)
        offset = data_end
    raise UnendedCodestream


def jpeg_size(frame: bytes) -> CodestreamSize | None:
    """Return the size in a JPEG or JPEG-LS codestream, None where there is no frame header before the first scan."""
    if frame[:2] != b"\xff\xd8":
        return None
    try:
        for segment in jpeg_segments(frame):
            if segment.marker == START_OF_SCAN:
                return None
            if segment.marker in _FRAME_MARKERS and segment.end - segment.start >= 6:
                precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, segment.start)
                return CodestreamSize(rows, columns, samples, precision, segment.marker not in _PROCESSES_IN_USE)
    except UnendedCodestream:
        return None
    return None


def whole_jpeg(frame: bytes, *, jpeg_ls: bool = False) -> bytes:
    """Return a JPEG or JPEG-LS codestream without what stands behind its end; raises as `jpeg_segments`."""
    *_, last = jpeg_segments(frame, jpeg_ls=jpeg_ls)
    return frame[: last.end]


def jpeg2000_size(frame: bytes) -> CodestreamSize | None:
    """Return the size in a JPEG 2000 codestream, None where it does not begin with SOC and SIZ.

    PS3.5 A.4.4 forbids the JP2 file format around the codestream; some writers add it all the same.
    """
    start = _jpeg2000_start(frame)
    if start is None or frame[start : start + 4] != b"\xff\x4f\xff\x51" or start + 45 > len(frame):
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", frame, start + 8)
    samples, depth = struct.unpack_from(">HB", frame, start + 40)
    # The highest bit of the depth is the sign, the others are the bits less one
    return CodestreamSize(bottom - top, right - left, samples, (depth & 0x7F) + 1)


def whole_jpeg2000(frame: bytes) -> bytes:
    """Return a JPEG 2000 codestream without the boxes of a JP2 file around it and what stands behind its end.

    Raises
    ------
    UnendedCodestream
        When the bytes end before the end of codestream.
    DamagedCodestream
        When a tile-part is not as long as it says (ISO/IEC 15444-1 A.4.2).
    """
    start = _jpeg2000_start(frame)
    if start is None:
        raise UnendedCodestream
    offset = start + 2
    # The main header: marker segments up to the first tile-part
    while (marker := frame[offset : offset + 2]) != _START_OF_TILE_PART:
        length = int.from_bytes(frame[offset + 2 : offset + 4], "big")
        if length < 2 or marker[0] != 0xFF or offset + 2 + length >= len(frame):
            raise UnendedCodestream
        offset += 2 + length
    while (marker := frame[offset : offset + 2]) == _START_OF_TILE_PART:
        length = int.from_bytes(frame[offset + 6 : offset + 10], "big")
        if not length:  # the last one, up to the end of codestream; no data hold such a marker
            end = frame.find(_END_OF_CODESTREAM, offset + 12)
            length = end - offset
            if end < 0:
                raise UnendedCodestream
        if length < 14:
            raise DamagedCodestream("a tile-part has no length")
        offset += length
    if marker != _END_OF_CODESTREAM:
        if offset + 2 > len(frame):
            raise UnendedCodestream
        raise DamagedCodestream("a tile-part is not as long as it says")
    return frame[start : offset + 2]


def _jpeg2000_start(frame: bytes) -> int | None:
    return _jp2_codestream_start(frame) if frame.startswith(_JP2_SIGNATURE) else 0


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
