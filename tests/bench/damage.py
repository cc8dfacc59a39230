"""How many damaged images are answered: sample radiographs in every transfer syntax, damaged, and read as in service.

`python -m tests.bench.damage` prints a table; `python -m tests.bench.damage 1 RLE` does so of one image and encoding.
`test_damaged_codestreams` runs a part of it.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_io.errors import PixelError
from dicom_io.pixels.codestream import START_OF_SCAN, jpeg_segments
from dicom_io.pixels.frames import read_frames
from tests.builders import build_cr, write_part10

SAMPLES = Path(__file__).parents[2] / "deploy" / "samples"
SHARES = (0.02, 0.05, 0.2, 0.4, 0.6)
PLACES = {"beginning": 0.0, "middle": 0.5, "end": 1.0}
KINDS = ("cut", "zeros", "noise", "noise without markers", "bits")
CHANGED, MOST_CHANGED = 0.01, 0.02
"""A pixel has changed that differs by more than this share of white; so many may."""


def _pillow(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray((pixels >> 4).astype(np.uint8)).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def _jpeg(pixels: np.ndarray, **options) -> bytes:
    return imagecodecs.jpeg8_encode(pixels, 90, bitspersample=12, **options)


def _jpeg2000(pixels: np.ndarray, **options) -> bytes:
    return imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", bitspersample=12, **options)


def _tiles(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    image = PIL.Image.fromarray(pixels)
    image.save(buffer, "JPEG2000", no_jp2=True, tile_size=(128, 128), codeblock_size=(32, 32), num_resolutions=4)
    return buffer.getvalue()


def _run_lengths(pixels: np.ndarray) -> bytes:
    ds = build_cr(pixels=pixels)
    ds.compress(RLELossless, generate_instance_uid=False)
    return get_frame(ds.PixelData, 0, number_of_frames=1)


@dataclass(frozen=True)
class Encoding:
    """A way to write 12-bit pixels; `bits` are those of the codestream."""

    transfer_syntax: str
    encode: Callable[[np.ndarray], bytes]
    bits: int = 12


ENCODINGS = {
    "JPEG baseline": Encoding(JPEGBaseline8Bit, _pillow, 8),
    "JPEG baseline, own tables": Encoding(JPEGBaseline8Bit, lambda p: _pillow(p, optimize=True), 8),
    "JPEG baseline, restarts": Encoding(JPEGBaseline8Bit, lambda p: _pillow(p, restart_marker_rows=4), 8),
    "JPEG extended, 12 bits": Encoding(JPEGExtended12Bit, _jpeg),
    "JPEG lossless SV1": Encoding(JPEGLosslessSV1, lambda p: _jpeg(p, lossless=True)),
    "JPEG lossless, predictor 6": Encoding(JPEGLossless, lambda p: _jpeg(p, lossless=True, predictor=6)),
    "JPEG-LS": Encoding(JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG-LS near-lossless": Encoding(JPEGLSNearLossless, lambda p: imagecodecs.jpegls_encode(p, level=3)),
    "JPEG 2000 lossless": Encoding(JPEG2000Lossless, lambda p: _jpeg2000(p, reversible=True)),
    "JPEG 2000 lossless, tiles": Encoding(JPEG2000Lossless, _tiles),
    "JPEG 2000 lossy": Encoding(JPEG2000, lambda p: _jpeg2000(p, level=45)),
    "HTJ2K lossless": Encoding(HTJ2KLossless, imagecodecs.htj2k_encode),
    "HTJ2K lossy": Encoding(HTJ2K, lambda p: imagecodecs.htj2k_encode(p, level=0.001, reversible=False)),
    "RLE": Encoding(RLELossless, _run_lengths),
    "native": Encoding(ExplicitVRLittleEndian, lambda p: p.tobytes()),
}


def radiographs(number: int | None = None) -> Iterator[np.ndarray]:
    """Yield the sample radiographs' pixels with 12 bits."""
    for path in sorted(SAMPLES.glob("*/*.dcm"))[:number]:
        ds = pydicom.dcmread(path)
        pixels = ds.pixel_array.astype(np.uint16)
        yield pixels << (12 - ds.BitsStored)


def data_set(encoding: Encoding, pixels: np.ndarray, content: bytes) -> Dataset:
    """Return a CR image with this content; the window shows the grey values as they are."""
    white = 2**encoding.bits
    ds = build_cr(
        pixels=(pixels >> 12 - encoding.bits).astype(np.uint8 if encoding.bits == 8 else np.uint16),
        bits_stored=encoding.bits,
        transfer_syntax=encoding.transfer_syntax,
        WindowCenter=white / 2,
        WindowWidth=white,
    )
    is_native = encoding.transfer_syntax == ExplicitVRLittleEndian
    ds.PixelData = content if is_native else encapsulate([content])
    return ds


def damageable(content: bytes, encoding: Encoding) -> tuple[int, int]:
    """Return where the compressed data begin and end; headers and end markers are kept."""
    if encoding.transfer_syntax == ExplicitVRLittleEndian:
        return 0, len(content)
    if encoding.transfer_syntax == RLELossless:
        return 64, len(content)
    if content[:4] == b"\xff\x4f\xff\x51":
        return content.index(b"\xff\x93") + 2, len(content) - 2
    is_ls = encoding.transfer_syntax in {JPEGLSLossless, JPEGLSNearLossless}
    (scan,) = (each for each in jpeg_segments(content, jpeg_ls=is_ls) if each.marker == START_OF_SCAN)
    return scan.end, scan.data_end


def damaged(content: bytes, encoding: Encoding, *, kind: str, share: float, place: str, chance: random.Random) -> bytes:
    """Return a copy with a share of its data cut out, overwritten, or (bits) so many per cent single bits turned."""
    start, end = damageable(content, encoding)
    length = max(1, int((end - start) * share))
    at = start + int((end - start - length) * PLACES[place])
    copy = bytearray(content)
    if kind == "bits":
        for _ in range(max(1, int(share * 100))):
            copy[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
        return bytes(copy)
    noise = chance.randbytes(length)
    filling = {
        "cut": b"",
        "zeros": bytes(length),
        "noise": noise,
        "noise without markers": noise.replace(b"\xff", b"\xfe"),
    }
    if kind == "cut" and encoding.transfer_syntax == ExplicitVRLittleEndian:
        filling["cut"] = bytes([copy[at]]) * length  # native data too short are another matter: one constant
    copy[at : at + length] = filling[kind]
    return bytes(copy)


def answer(path: Path) -> np.ndarray | None:
    """Return the pixels that the model would get, None where the file is refused."""
    try:
        return next(read_frames(path)).pixels
    except PixelError:
        return None


@dataclass
class Row:
    """What became of one encoding's damaged copies."""

    damaged: int = 0
    refused: int = 0
    little: int = 0
    wrong: int = 0
    seconds: float = 0.0


def measure(name: str, images: list[np.ndarray], kinds=KINDS, shares=SHARES, seed: int = 1) -> tuple[Row, Counter]:
    """Damage each image in each way in this encoding; return the counts and the ways of what was answered wrongly."""
    encoding, row, wrong, chance = ENCODINGS[name], Row(), Counter(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.dcm"
        for pixels in images:
            content = encoding.encode(pixels)
            write_part10(data_set(encoding, pixels, content), path)
            started = time.perf_counter()
            whole = answer(path)
            row.seconds += time.perf_counter() - started
            if whole is None:
                raise SystemExit(f"{name}: an undamaged image is refused")
            for kind in kinds:
                for share in shares:
                    for place in PLACES:
                        copy = damaged(content, encoding, kind=kind, share=share, place=place, chance=chance)
                        if copy == content:
                            continue
                        write_part10(data_set(encoding, pixels, copy), path)
                        row.damaged += 1
                        got = answer(path)
                        if got is None:
                            row.refused += 1
                        elif (np.abs(got - whole) > CHANGED).mean() <= MOST_CHANGED:
                            row.little += 1
                        else:
                            row.wrong += 1
                            wrong[kind, share, place] += 1
    return row, wrong


def main() -> None:
    """Print the table."""
    images = list(radiographs(int(sys.argv[1]) if len(sys.argv) > 1 else None))
    print(f"{len(images)} images; wrong: answered although more than {MOST_CHANGED:.0%} of the pixels changed\n")
    print("| encoding | damaged | refused | answered, little changed | wrong | ms to read |\n|---|---|---|---|---|---|")
    total = Counter()
    for name in sys.argv[2:] or ENCODINGS:
        row, wrong = measure(name, images)
        total.update(damaged=row.damaged, refused=row.refused, little=row.little, wrong=row.wrong)
        milliseconds = 1000 * row.seconds / len(images)
        print(
            f"| {name} | {row.damaged} | {row.refused} | {row.little} | {row.wrong} | {milliseconds:.0f} |", flush=True
        )
        for way, number in sorted(wrong.items()):
            print("   ", *way, number, file=sys.stderr)
    print(f"| all | {total['damaged']} | {total['refused']} | {total['little']} | {total['wrong']} | |")
    sys.exit(bool(total["wrong"]))


if __name__ == "__main__":
    main()
