"""Is a picture file whole? What decoders hand on without a word is looked for in the file itself.

Pillow drops the warnings of libjpeg, which fills what it could not read with grey; libtiff and zlib stop reading where
they have enough. A damaged picture must not be answered: a fracture may lie in what is missing.

An uncompressed TIFF holds nothing to check its pixels by: it is refused where it was cut.
"""

from __future__ import annotations

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
STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_BYTE_COUNTS = 273, 278, 279
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTE_COUNTS = 322, 323, 324, 325
NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
UNSIGNED = 1
SPARE_BYTES = 16
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
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=True)
    except ValueError as error:
        raise ImageError(DAMAGED.format(_words(error))) from error
    try:
        imagecodecs.jpegxl_encode_jpeg(data, numthreads=1)
    except imagecodecs.JpegxlError as error:
        raise ImageError(DAMAGED.format("its codestream is not one that a JPEG encoder writes")) from error
    if missing := _unfinished(data):
        raise ImageError(DAMAGED.format(missing))


def _words(error: ValueError) -> str:
    words = str(error).removeprefix("Corrupt JPEG data: ")
    return words if words.isascii() and words.isprintable() else "its codestream cannot be read"


def _unfinished(data: bytes) -> str | None:
    """Say what is missing of a progressive JPEG: cut between two scans it is a whole, coarser file (T.81 G.1.1)."""
    exact: dict[int, set[int]] = {}
    components = 0
    for marker, content in _jpeg_segments(data):
        if marker in {0xC2, 0xC6, 0xCA, 0xCE}:
            components = content[5]
        elif marker == 0xDA and components:
            count = content[0]
            first, last, low = content[1 + 2 * count], content[2 + 2 * count], content[3 + 2 * count] & 15
            for place in range(count):
                known = exact.setdefault(content[1 + 2 * place], set())
                known.update(range(first, last + 1) if low == 0 else ())
    if components and (len(exact) < components or any(len(known) < 64 for known in exact.values())):
        return "scans of a progressive JPEG are missing"
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment; entropy-coded data are passed over (T.81 B.1.1)."""
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 4 <= len(data):
        marker = data[place + 1]
        if marker == 0xD9:
            return
        if marker in {0x00, 0x01, 0xFF} or 0xD0 <= marker <= 0xD7:
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4])
        yield marker, data[place + 4 : place + 2 + length]
        place += 2 + length


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
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        name, end = data[place + 4 : place + 8], place + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageError(DAMAGED.format(f"the check sum of its chunk {name!r} is wrong"))
        if name == b"IDAT" and not _inflates(stream, data[place + 8 : end]):
            raise ImageError(DAMAGED.format("its pixels cannot be decompressed"))
        if name == b"IEND":
            if not stream.eof:
                raise ImageError(DAMAGED.format("its pixels end too early"))
            return
        place = end + 4
    raise ImageError(DAMAGED.format("it ends too early"))


def _inflates(stream: Any, compressed: bytes) -> bool:
    """Decompress and forget, a mebibyte at a time: a small chunk may hold gigabytes."""
    rest = compressed
    try:
        while rest and not stream.eof:
            stream.decompress(rest, 1 << 20)
            rest = stream.unconsumed_tail
    except zlib.error:
        return False
    return True


def check_webp(data: bytes, picture: Image.Image) -> None:
    """Refuse a WebP that does not need all of its bytes: its decoder takes any bytes for pixels.

    Of a whole one the last bytes cannot be missed. Behind damage the pixels are coded in fewer bytes, or in more, which
    the decoder notices itself. Of lossless ones about one damaged file in twenty still passes.

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
        if name in {b"VP8 ", b"VP8L"}:
            content = data[place + 8 : place + 8 + length]
            if not _is_webp(name, content):
                raise ImageError(DAMAGED.format("its codestream cannot be read"))
            if _is_webp(name, content[: max(0, len(content) - SPARE_BYTES) // 2 * 2]):
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
    if TILE_OFFSETS in tags:
        width, height = tags[TILE_WIDTH], tags[TILE_LENGTH]
        heights = [height] * (-(-columns // width) * -(-rows // height) * planes)
        offsets, lengths = tags[TILE_OFFSETS], tags[TILE_BYTE_COUNTS]
    else:
        width, height = columns, min(tags.get(ROWS_PER_STRIP, rows), rows)
        heights = [min(height, rows - top) for top in range(0, rows, height)] * planes
        offsets, lengths = tags[STRIP_OFFSETS], tags[STRIP_BYTE_COUNTS]
    if not len(heights) == len(offsets) == len(lengths):
        raise ImageError(DAMAGED.format("strips are missing"))
    for start, length, lines in zip(offsets, lengths, heights, strict=True):
        yield start, length, -(-width * bits_a_pixel // 8) * lines


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
