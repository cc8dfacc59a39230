"""Whether the compressed data of a JPEG frame are whole: every Huffman code is read, no pixel is made.

libjpeg, which decodes in every library, fills up with grey what is missing, goes on behind what it cannot read, and
says so only to a caller in C. Grey has no fracture, so a damaged frame must be known before it is decoded. What a sound
one fulfils (ISO/IEC 10918-1 F.2.2, H.2): every code is in its table, every block has 64 coefficients, every scan has as
many blocks (where lossless, samples) as the frame header says, the data end with them, and no block is brighter than
white or darker than black.

Read are the sequential Huffman processes, which are all that DICOM uses (PS3.5 A.4.1, A.4.2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from dicom_io.pixels.codestream import END_OF_IMAGE, START_OF_SCAN, DamagedCodestream, Segment, jpeg_segments
from dicom_io.pixels.jpeg_huffman import BLOCK, check_blocks, check_brightness, check_samples, code_words, prepare

_SEQUENTIAL, _LOSSLESS = frozenset({0xC0, 0xC1}), 0xC3
_HUFFMAN_TABLES, _QUANTIZATION_TABLES, _RESTART_INTERVAL = 0xC4, 0xDB, 0xDD


@dataclass(frozen=True, slots=True)
class _Component:
    horizontal: int
    vertical: int
    quantization: int


@dataclass(slots=True)
class _Frame:
    """What the marker segments before a scan have set."""

    precision: int = 0
    rows: int = 0
    columns: int = 0
    lossless: bool = False
    restart_interval: int = 0
    components: dict[int, _Component] = field(default_factory=dict)
    huffman: dict[int, bytes] = field(default_factory=dict)
    quantization: dict[int, int] = field(default_factory=dict)


def check_jpeg(codestream: bytes) -> None:
    """Check the compressed data of a whole JPEG codestream (`codestream.whole_jpeg`).

    Raises
    ------
    DamagedCodestream
        When it is not sound.
    """
    frame, scanned = _Frame(), set[int]()
    try:
        for segment in jpeg_segments(codestream):
            parameters = codestream[segment.start : segment.end]
            if segment.marker == START_OF_SCAN:
                scanned |= _check_scan(frame, parameters, codestream[segment.end : segment.data_end])
            else:
                _read_segment(frame, segment, parameters)
    except (struct.error, LookupError) as error:
        raise DamagedCodestream("a marker segment is malformed") from error
    if not scanned or scanned != set(frame.components):
        raise DamagedCodestream("a component has no data")


def _read_segment(frame: _Frame, segment: Segment, parameters: bytes) -> None:
    if segment.marker in _SEQUENTIAL or segment.marker == _LOSSLESS:
        if frame.components:
            raise DamagedCodestream("there is a second frame header")
        frame.lossless = segment.marker == _LOSSLESS
        frame.precision, frame.rows, frame.columns, count = struct.unpack_from(">BHHB", parameters)
        for number in range(count):
            name, sampling, table = struct.unpack_from(">BBB", parameters, 6 + 3 * number)
            frame.components[name] = _Component(sampling >> 4, sampling & 15, table)
        if not all(1 <= c.horizontal <= 4 and 1 <= c.vertical <= 4 for c in frame.components.values()):
            raise DamagedCodestream("the sampling factors are malformed")
    elif segment.marker == _HUFFMAN_TABLES:
        offset = 0
        while offset < len(parameters):
            length = 17 + sum(parameters[offset + 1 : offset + 17])
            frame.huffman[parameters[offset]] = parameters[offset + 1 : offset + length]
            offset += length
    elif segment.marker == _QUANTIZATION_TABLES:
        offset = 0
        while offset < len(parameters):
            precision, name = parameters[offset] >> 4, parameters[offset] & 15
            (frame.quantization[name],) = struct.unpack_from(">H" if precision else ">B", parameters, offset + 1)
            offset += 1 + BLOCK * (2 if precision else 1)
    elif segment.marker == _RESTART_INTERVAL:
        (frame.restart_interval,) = struct.unpack(">H", parameters)
    elif segment.marker != END_OF_IMAGE and not 0xE0 <= segment.marker <= 0xFE:
        raise DamagedCodestream(f"there is a marker FF{segment.marker:02X}, which no such image has")


def _check_scan(frame: _Frame, parameters: bytes, data: bytes) -> set[int]:
    """Check one scan; return the components that it has."""
    names = [parameters[1 + 2 * number] for number in range(parameters[0])]
    tables = [parameters[2 + 2 * number] for number in range(parameters[0])]
    components = [frame.components[name] for name in names]
    unit = 1 if frame.lossless else 8
    widest = max(component.horizontal for component in frame.components.values())
    tallest = max(component.vertical for component in frame.components.values())
    if len(components) == 1:  # not interleaved: every data unit is an MCU (A.2.2)
        (only,) = components
        across = -(-_part(frame.columns, only.horizontal, widest) // unit)
        down = -(-_part(frame.rows, only.vertical, tallest) // unit)
        units = [0]
    else:
        across, down = -(-frame.columns // (unit * widest)), -(-frame.rows // (unit * tallest))
        units = [n for n, each in enumerate(components) for _ in range(each.horizontal * each.vertical)]
    prepared = prepare(data)
    counts = _interval_counts(across * down, frame.restart_interval, len(prepared.intervals))
    dc_words = {table >> 4: code_words(frame.huffman[table >> 4]) for table in tables}
    dc = [dc_words[table >> 4] for table in tables]
    if frame.lossless:
        check_samples(prepared, counts, [dc[n] for n in units])
    else:
        ac_words = {table & 15: code_words(frame.huffman[0x10 | table & 15], ac=True) for table in tables}
        ac = [ac_words[table & 15] for table in tables]
        starts = check_blocks(prepared, counts, [(dc[n], ac[n]) for n in units]).reshape(-1, len(units))
        for number, component in enumerate(components):
            own = starts[:, [unit == number for unit in units]]
            # White is 2 ** (P - 1) above the middle, and eight times that as a coefficient, rounded
            limit = (1 << frame.precision + 2) // max(1, frame.quantization[component.quantization]) + 2
            check_brightness(prepared, own.ravel(), [each * own.shape[1] for each in counts], dc[number], limit)
    return set(names)


def _part(whole: int, factor: int, largest: int) -> int:
    return -(-whole * factor // largest)


def _interval_counts(mcus: int, interval: int, intervals: int) -> list[int]:
    """Return the MCUs of each restart interval."""
    interval = interval or mcus
    expected = -(-mcus // interval)
    if intervals != expected:
        raise DamagedCodestream(f"it has {intervals} restart intervals, not {expected}")
    return [interval] * (expected - 1) + [mcus - interval * (expected - 1)]
