"""A radiograph whose elements are changed one by one: their values, lengths and value representations."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite

from dicom_io.header.elements import _LONG_VRS, _SHORT_VRS, Walk, encoding_of
from dicom_io.header.header import read_file_meta
from tests.builders import build_radiograph, coded, ramp

VRS = sorted(vr.decode() for vr in _LONG_VRS | _SHORT_VRS)
PIXELS = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"


@dataclass(frozen=True)
class Variant:
    """A file in which one element is odd, and words for what is odd."""

    words: str
    content: bytes


def radiograph() -> Dataset:
    """Return a DX image with all that display, report and companions read."""
    ds = build_radiograph("DX", pixels=ramp(40, 60), WindowCenter="2048", WindowWidth="4096")
    ds.update(_more())
    return ds


def _more() -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = 60000, 60000
    ds.SmallestImagePixelValue, ds.LargestImagePixelValue = 0, 4095
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "0", "US"
    ds.VOILUTFunction, ds.LossyImageCompression = "LINEAR", "00"
    ds.PixelSpacing = ds.ImagerPixelSpacing = ["0.1", "0.1"]
    ds.PixelAspectRatio = ["1", "1"]
    ds.NumberOfFrames, ds.PlanarConfiguration = "1", 0
    ds.AnatomicRegionSequence = [coded("85562004", "SCT", "Hand")]
    ds.PatientAge, ds.PatientSize, ds.PatientWeight = "030Y", "1.7", "70"
    ds.TimezoneOffsetFromUTC, ds.StudyDescription = "+0100", "Hand"
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4096, 0, 12], np.arange(4096, dtype="<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    ds.VOILUTSequence = [item]
    ds.add_new(0x00290010, "LO", "NOBODY")
    ds.add_new(0x00291001, "UN", b"\1\2\3\4")
    return ds


@dataclass(frozen=True)
class _Taken:
    """A file taken apart: what comes before the elements, those before the pixels, and the pixels."""

    head: bytes
    parts: list[tuple[int, str, bytes]]
    tail: bytes
    implicit: bool


def _taken_apart(ds: Dataset) -> _Taken:
    stream = DicomBytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    content = stream.getvalue()
    stream.seek(0)
    encoding = encoding_of(read_file_meta(stream))
    start = stream.tell()
    walk = Walk(stream, encoding)
    parts = [(each.tag, each.vr or "UN", walk.value(each, 1 << 24)) for each in walk.elements(before_tag=PIXELS)]
    return _Taken(content[:start], parts, content[walk.position :], encoding.implicit)


def element(tag: int, vr: str, value: bytes, length: int | None = None, *, implicit: bool = False) -> bytes:
    """Encode an element, little endian, with a length that may be a lie."""
    count = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack("<I", count) + value
    head += vr.encode()
    return head + (b"\0\0" + struct.pack("<I", count) if vr.encode() in _LONG_VRS else struct.pack("<H", count)) + value


def nested(depth: int) -> bytes:
    """Return the value of a sequence that holds itself, of undefined lengths."""
    opened = ITEM + b"\xff\xff\xff\xff" + element(0x00081140, "SQ", b"", 0xFFFFFFFF)
    return opened * depth + (SEQUENCE_END + ITEM_END) * depth + SEQUENCE_END


ODD_VALUES = {
    "empty": b"",
    "one byte": b"\x07",
    "three bytes": b"\1\2\3",
    "seven bytes": b"\xff" * 7,
    "text": b"none of it ",
    "a comma": b"1,5 ",
    "a large number": b"1e999 ",
    "no characters": bytes(range(0x80, 0x90)),
    "backslashes": b"\\" * 40,
    "escapes": b"\x1b$B\x1b(J\x1b",
    "zeros": b"\0" * 12,
    "long": b"9" * 3000,
    "an item": ITEM + b"\x04\0\0\0abcd",
    "an item cut off": ITEM + b"\xff\xff\xff\x7f",
}


def variants(ds: Dataset | None = None) -> Iterator[Variant]:
    """Yield a radiograph with one element before its pixels changed after the other, each in many ways."""
    taken = _taken_apart(radiograph() if ds is None else ds)
    for place, (tag, vr, value) in enumerate(taken.parts):
        before = taken.head + _joined(taken.parts[:place], taken)
        behind = _joined(taken.parts[place + 1 :], taken) + taken.tail
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {vr}"
        for words, middle in _changed(tag, vr, value, implicit=taken.implicit):
            yield Variant(f"{name}: {words}", before + middle + behind)


def _joined(parts: list[tuple[int, str, bytes]], taken: _Taken) -> bytes:
    return b"".join(element(*each, implicit=taken.implicit) for each in parts)


def _changed(tag: int, vr: str, value: bytes, *, implicit: bool) -> Iterator[tuple[str, bytes]]:
    encode = functools.partial(element, tag, implicit=implicit)
    for words, odd in ODD_VALUES.items():
        yield words, encode(vr, odd)
    if not implicit:
        yield from ((f"as {other}", encode(other, value)) for other in VRS if other != vr)
    for words, odd in (("nested", nested(40)), ("nested deeply", nested(3000)), ("never closed", b"")):
        for other in ("SQ", "UN"):
            yield f"{words} as {other}", encode(other, odd, 0xFFFFFFFF)
    yield "twice", encode(vr, value) * 2
    yield "missing", b""
