"""A radiograph whose elements are changed one by one: their values, lengths and value representations."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite

from dicom_io.elements import _LONG_VRS, _SHORT_VRS, Walk, encoding_of
from dicom_io.header import read_file_meta
from tests.builders import build_radiograph, coded, ramp

VRS = sorted(vr.decode() for vr in _LONG_VRS | _SHORT_VRS)
EXPLICIT = encoding_of("1.2.840.10008.1.2.1")
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


def _parts(ds: Dataset) -> tuple[bytes, list[tuple[int, str, bytes]]]:
    stream = DicomBytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    content = stream.getvalue()
    stream.seek(0)
    read_file_meta(stream)
    start = stream.tell()
    walk = Walk(stream, EXPLICIT)
    return content[:start], [(each.tag, each.vr or "UN", walk.value(each, 1 << 24)) for each in walk.elements()]


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """Encode an element, explicit VR little endian, with a length that may be a lie."""
    count = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
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


def variants() -> Iterator[Variant]:
    """Yield the radiograph with one element changed after the other, each in many ways."""
    head, parts = _parts(radiograph())
    for place, (tag, vr, value) in enumerate(parts):
        before = head + b"".join(element(*each) for each in parts[:place])
        behind = b"".join(element(*each) for each in parts[place + 1 :])
        name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        if tag != PIXELS:
            for words, odd in ODD_VALUES.items():
                yield Variant(f"{name} {vr}: {words}", before + element(tag, vr, odd) + behind)
        for other in VRS:
            if other != vr and (len(value) < 65536 or other.encode() in _LONG_VRS):
                yield Variant(f"{name} {vr} as {other}", before + element(tag, other, value) + behind)
        for words, odd in (("nested", nested(40)), ("nested deeply", nested(3000)), ("never closed", b"")):
            yield Variant(f"{name} {words}", before + element(tag, "SQ", odd, 0xFFFFFFFF) + behind)
            yield Variant(f"{name} UN {words}", before + element(tag, "UN", odd, 0xFFFFFFFF) + behind)
        yield Variant(f"{name} twice", before + element(tag, vr, value) * 2 + behind)
        yield Variant(f"{name} missing", before + behind)
