"""Is a picture file whole? What decoders hand on without a word is looked for in the file itself.

Pillow drops the warnings of libjpeg, which fills what it could not read with grey; libtiff and zlib stop reading where
they have enough. A damaged picture must not be answered: a fracture may lie in what is missing.

An uncompressed TIFF holds nothing to check its pixels by: it is refused where it was cut.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
import simplejpeg
from PIL import Image

from models.types import ImageError

DAMAGED = "the picture is damaged: {}"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# TIFF 6.0: tags, and the compressions whose strips can be checked
IMAGE_WIDTH, IMAGE_LENGTH, COMPRESSION, SAMPLES_PER_PIXEL, PLANAR_CONFIGURATION = 256, 257, 259, 277, 284
BITS_PER_SAMPLE, SAMPLE_FORMAT = 258, 339
ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS = 278, 322, 323, 324
STRIPS, TILES = (273, 279), (TILE_OFFSETS, 325)
"""The tags of offsets and byte counts."""
NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
UNSIGNED = 1
MOST_BYTES_A_STRIP = 1 << 30
MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""A marker with a length behind it, or the end: no stuffed byte, no filling and no restart (T.81 B.1.1)."""
ARITHMETIC = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
MOST_SCANS = 100
"""Of a progressive JPEG: encoders write about ten; each costs a pass over the whole picture."""
SPARE_BYTES = {b"VP8 ": 8, b"VP8L": 16}
"""So many at its end a whole WebP may be able to do without: its decoders read ahead."""


def check_jpeg(data: bytes, picture: Image.Image) -> None:
    """Refuse a JPEG whose entropy-coded data do not make up its image.

    libjpeg-turbo with its warnings as errors notices what ends early or late, libjxl, which must be able to write each
    file again byte for byte, codes that no encoder writes; either misses what the other one notices.

    Raises
    ------
    ImageError
        With libjpeg's words where it has any.

    References
    ----------
    ITU-T T.81, F.2.2 and G.2.
    """
    _check_scans(data)
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=True)
    except ValueError as error:
        raise ImageError(DAMAGED.format(_words(error))) from error
    try:
        imagecodecs.jpegxl_encode_jpeg(data, numthreads=1)
    except imagecodecs.JpegxlError as error:
        raise ImageError(DAMAGED.format("its codestream is not one that a JPEG encoder writes")) from error


def _words(error: ValueError) -> str:
    words = str(error).removeprefix("Corrupt JPEG data: ")
    return words if words.isascii() and words.isprintable() else "its codestream cannot be read"


def _check_scans(data: bytes) -> None:
    """Refuse a progressive JPEG with scans missing: cut between two it is a whole, coarser file (T.81 G.1.1)."""
    exact: dict[int, set[int]] = {}
    components = scans = 0
    for marker, content in _jpeg_segments(data):
        if marker in ARITHMETIC and not scans:
            raise ImageError(
                "the picture is an arithmetic-coded JPEG, which cannot be checked for damage; save it as PNG"
            )
        if marker in {0xC2, 0xC6}:
            components = content[5]
        elif marker == 0xDA:
            scans += 1
            if scans > MOST_SCANS:
                raise ImageError(f"the picture is a JPEG of more than {MOST_SCANS} scans")
            count = content[0]
            first, last, low = content[1 + 2 * count], content[2 + 2 * count], content[3 + 2 * count] & 15
            for place in range(count):
                known = exact.setdefault(content[1 + 2 * place], set())
                known.update(range(first, last + 1) if low == 0 else ())
    if components and (len(exact) < components or any(len(known) < 64 for known in exact.values())):
        raise ImageError(DAMAGED.format("scans of a progressive JPEG are missing"))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment; entropy-coded data are passed over (T.81 B.1.1)."""
    place = 2
    while (found := MARKER.search(data, place)) is not None and found[0] != b"\xff\xd9":
        start = found.end()
        length = int.from_bytes(data[start : start + 2])
        yield found[0][1], data[start + 2 : start + length]
        place = start + length


def check_png(data: bytes, picture: Image.Image) -> None:
    """Refuse a PNG with a chunk whose check sum is wrong, without its end, or with pixels missing or left over.

    Raises
    ------
    ImageError
        Naming the chunk.

    References
    ----------
    PNG (third edition), 5.3 (chunk layout), 10 (compression).
    """
    place, stream = len(PNG_SIGNATURE), zlib.decompressobj()
    columns, rows = picture.size
    room = 2 * rows * (8 * columns + 2)  # four samples of 16 bits, and no interlaced picture has twice as many rows
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        name, end = data[place + 4 : place + 8], place + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageError(DAMAGED.format(f"the check sum of its chunk {name!r} is wrong"))
        if name == b"IDAT":
            room -= _inflated_bytes(stream, data[place + 8 : end], room)
        if name == b"IEND":
            if not stream.eof:
                raise ImageError(DAMAGED.format("its pixels end too early"))
            return
        place = end + 4
    raise ImageError(DAMAGED.format("it ends too early"))


def _inflated_bytes(stream: Any, compressed: bytes, room: int) -> int:
    """Decompress and forget, a mebibyte at a time, and return how much it was: a small chunk may hold gigabytes."""
    rest, total = compressed, 0
    try:
        while rest and not stream.eof:
            total += len(stream.decompress(rest, 1 << 20))
            rest = stream.unconsumed_tail
            if total > room:
                raise ImageError(DAMAGED.format("it holds more pixels than its size"))
    except zlib.error as error:
        raise ImageError(DAMAGED.format("its pixels cannot be decompressed")) from error
    return total


def check_webp(data: bytes, picture: Image.Image) -> None:
    """Refuse a WebP that does not need all of its bytes: its decoder takes any bytes for pixels.

    Of a whole one the last bytes cannot be missed. Behind damage the pixels are coded in fewer bytes, or in more, which
    the decoder notices itself. Of 900 damaged lossy ones two pass, of lossless ones one in twenty.

    Raises
    ------
    ImageError
        When it ends too early, or could do without its end.

    References
    ----------
    RFC 9649, 2 (RIFF container); RFC 6386, 9.5 (partitions).
    """
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise ImageError(DAMAGED.format("it ends too early"))
    place = 12
    while place + 8 <= len(data):
        name, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if name in SPARE_BYTES:
            content = data[place + 8 : place + 8 + length]
            if not _is_webp(name, content):
                raise ImageError(DAMAGED.format("its codestream cannot be read"))
            if _is_webp(name, content[: max(0, len(content) - SPARE_BYTES[name]) // 2 * 2]):
                raise ImageError(DAMAGED.format("its pixels end before its codestream does"))
            return
        place += 8 + length + length % 2
    raise ImageError(DAMAGED.format("it holds no picture"))


def _is_webp(name: bytes, content: bytes) -> bool:
    """Tell whether a chunk alone can be decoded (RFC 9649, 2.5)."""
    chunk = name + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)
    try:
        imagecodecs.webp_decode(b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk)
    except imagecodecs.WebpError:
        return False
    return True


def check_tiff(data: bytes, picture: Image.Image) -> None:
    """Refuse a TIFF with a strip or tile that does not decompress to exactly its pixels.

    Raises
    ------
    ImageError
        Also for a compression that cannot be checked, and for values that are no unsigned integers.

    References
    ----------
    TIFF 6.0, sections 9 (PackBits), 13 (LZW); Adobe Photoshop TIFF technical notes (Deflate).
    """
    tags: Mapping[int, Any] = picture.tag_v2  # type: ignore[attr-defined]
    if any(kind != UNSIGNED for kind in tags.get(SAMPLE_FORMAT, (UNSIGNED,))):
        raise ImageError("the picture holds signed or floating point numbers; save it with 8 or 16 bits, unsigned")
    decode = DECODERS.get(tags.get(COMPRESSION, NONE))
    if decode is None:
        raise ImageError("the picture is a TIFF whose compression cannot be checked for damage; save it as PNG")
    for start, length, expected in _segments(tags):
        if start + length > len(data):
            raise ImageError(DAMAGED.format("it ends too early"))
        if decode(data[start : start + length], expected) != expected:
            raise ImageError(DAMAGED.format("a strip does not hold its pixels"))


def _segments(tags: Mapping[int, Any]) -> Iterator[tuple[int, int, int]]:
    """Yield offset, length in the file and length decompressed of each strip or tile."""
    columns, rows = tags[IMAGE_WIDTH], tags[IMAGE_LENGTH]
    bits = tags.get(BITS_PER_SAMPLE, (1,))
    planes = len(bits) if tags.get(PLANAR_CONFIGURATION, 1) == 2 else 1
    bits_a_pixel = bits[0] if planes > 1 else sum(bits)
    tiled = TILE_OFFSETS in tags
    offsets, lengths = (tags[key] for key in (TILES if tiled else STRIPS))
    width, height = (
        (tags[TILE_WIDTH], tags[TILE_LENGTH]) if tiled else (columns, min(tags.get(ROWS_PER_STRIP, rows), rows))
    )
    across, down = -(-columns // width), -(-rows // height)
    if not across * down * planes == len(offsets) == len(lengths):
        raise ImageError(DAMAGED.format("strips are missing"))
    line = -(-width * bits_a_pixel // 8)
    for number, (start, length) in enumerate(zip(offsets, lengths, strict=True)):
        last = not tiled and number % down == down - 1
        expected = line * (rows - (down - 1) * height if last else height)
        if expected > MOST_BYTES_A_STRIP:
            raise ImageError(DAMAGED.format("a strip is of an absurd size"))
        yield start, length, expected


def _inflated(data: bytes, expected: int) -> int:
    stream = zlib.decompressobj()
    try:
        length = len(stream.decompress(data, expected + 1))
        # The check sum is read only when the end is asked for.
        length += len(stream.decompress(stream.unconsumed_tail, 1)) if not stream.eof else 0
    except zlib.error:
        return -1
    return length if stream.eof else -1


def _unpacked(data: bytes, expected: int, decode: Callable[..., Any], error: type[Exception]) -> int:
    try:
        return len(decode(data, out=np.empty(expected + 1, np.uint8)))
    except error:
        return -1


DECODERS: Mapping[int, Callable[[bytes, int], int]] = {
    NONE: lambda data, expected: min(len(data), expected),
    LZW: partial(_unpacked, decode=imagecodecs.lzw_decode, error=imagecodecs.LzwError),
    DEFLATE: _inflated,
    OLD_DEFLATE: _inflated,
    PACKBITS: partial(_unpacked, decode=imagecodecs.packbits_decode, error=imagecodecs.PackbitsError),
}
CHECKS: Mapping[str, Callable[[bytes, Image.Image], None]] = {
    "JPEG": check_jpeg,
    "PNG": check_png,
    "TIFF": check_tiff,
    "WEBP": check_webp,
}
"""By Pillow's name of the format: raises ImageError where the file is damaged."""
