"""The compressed data of a JPEG: what is whole passes, whoever wrote it; what is damaged does not."""

import io
import random
import struct

import imagecodecs
import numpy as np
import PIL.Image
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

from dicom_io.errors import PixelDataDamaged
from dicom_io.pixels.codestream import START_OF_SCAN, DamagedCodestream, UnendedCodestream, jpeg_segments, whole_jpeg
from dicom_io.pixels.frame_decoding import check_range
from dicom_io.pixels.frames import read_frames
from dicom_io.pixels.jpeg_entropy import check_jpeg
from tests.builders import build_cr, write_part10


def radiograph(bits: int = 8) -> np.ndarray:
    """Return something with edges, noise and flat parts, uint8 or uint16, 200 rows, 180 columns."""
    y, x = np.mgrid[0:200, 0:180]
    noise = np.random.default_rng(7).normal(0, 0.02, x.shape)
    bone = np.where(abs(x - 90 + y / 8) < 25, 0.35, 0) + 0.25 * np.sin(y / 30) + 0.4 + noise
    bone[180:] = 0
    return (bone.clip(0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def pillow(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def colour() -> np.ndarray:
    return np.stack([radiograph(), radiograph()[::-1], radiograph()[:, ::-1]], axis=-1)


SOUND = {
    "baseline": pillow(radiograph(), quality=90),
    "baseline, own tables": pillow(radiograph(), quality=90, optimize=True),
    "baseline, restart intervals": pillow(radiograph(), quality=90, restart_marker_rows=1),
    "baseline, colour 4:2:0": pillow(colour(), quality=90),
    "baseline, colour 4:4:4": pillow(colour(), quality=90, subsampling=0),
    "extended, 12 bits": imagecodecs.jpeg8_encode(radiograph(12), 90, bitspersample=12),
    "lossless, 8 bits": imagecodecs.jpeg8_encode(radiograph(), lossless=True),
    "lossless, 12 bits": imagecodecs.jpeg8_encode(radiograph(12), lossless=True, bitspersample=12, predictor=6),
    "lossless, 16 bits": imagecodecs.jpeg8_encode(radiograph(16), lossless=True, bitspersample=16),
    "lossless, colour": imagecodecs.jpeg8_encode(colour(), lossless=True, colorspace="RGB", outcolorspace="RGB"),
}


def check(frame: bytes) -> None:
    check_jpeg(whole_jpeg(frame))


def data_of(frame: bytes) -> tuple[int, int]:
    (scan,) = (segment for segment in jpeg_segments(frame) if segment.marker == START_OF_SCAN)
    return scan.end, scan.data_end


@pytest.mark.parametrize("name", SOUND)
def test_what_is_whole_passes(name):
    check(SOUND[name])


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("share", [0.02, 0.05, 0.2, 0.6])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["cut", "zeros", "noise"])
def test_what_was_cut_or_overwritten_does_not_pass(name, share, where, kind):
    frame = bytearray(SOUND[name])
    start, end = data_of(SOUND[name])
    length = int((end - start) * share)
    at = start + int((end - start - length) * where)
    # without FF, which would be a marker
    noise = bytes(byte % 255 for byte in random.Random(length).randbytes(length))
    frame[at : at + length] = {"cut": b"", "zeros": bytes(length), "noise": noise}[kind]

    with pytest.raises(DamagedCodestream):
        check(bytes(frame))


@pytest.mark.parametrize("name", ["baseline", "extended, 12 bits", "lossless, 12 bits"])
@pytest.mark.parametrize("padding", [b"\0", b"\0\0\0", b"\xff", b"\xff\xff"])
def test_a_few_bytes_of_padding_may_stand_before_the_end_marker(name, padding):
    check(SOUND[name][:-2] + padding + SOUND[name][-2:])


@pytest.mark.parametrize("behind", [b"\0", bytes(700), b"\xff\xd9", b"any"])
def test_what_stands_behind_the_end_is_left_aside(behind):
    assert whole_jpeg(SOUND["baseline"] + behind) == SOUND["baseline"]


def test_an_end_marker_inside_a_preview_is_not_the_end():
    preview = SOUND["baseline"][:200] + b"\xff\xd9"
    frame = SOUND["baseline"]
    with_preview = frame[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(preview)) + preview + frame[2:]

    check(with_preview)
    with pytest.raises(UnendedCodestream):
        check(with_preview[:-2])


def test_a_restart_interval_too_few_or_two_exchanged_do_not_pass():
    frame = SOUND["baseline, restart intervals"]
    first, second, third = (frame.index(bytes([0xFF, 0xD0 + number])) for number in range(3))

    for damaged in (
        frame[:first] + frame[second:],
        frame[:first] + frame[second:third] + frame[first:second] + frame[third:],
    ):
        with pytest.raises(DamagedCodestream):
            check(damaged)


def test_a_block_beyond_white_does_not_pass():
    """The DC difference of the first block made as large as its code allows; every code stays sound."""
    steep = pillow(np.full((16, 16), 255, np.uint8), quality=100)
    content = bytearray(steep)
    table = steep.index(b"\xff\xdb") + 5
    content[table] = 200  # the DC coefficient counts 200 times as much

    with pytest.raises(DamagedCodestream, match="brighter than white"):
        check(bytes(content))


@pytest.mark.parametrize("length", range(2, 900, 37))
def test_a_header_that_is_cut_off_does_not_pass(length):
    with pytest.raises(DamagedCodestream):
        check(SOUND["baseline"][:length] + b"\xff\xd9")


def test_bytes_changed_anywhere_give_a_reason_and_nothing_else():
    chance, reasons = random.Random(5), set()
    for frame in SOUND.values():
        for _ in range(40):
            damaged = bytearray(frame)
            for _ in range(3):
                damaged[chance.randrange(2, len(frame))] = chance.randrange(256)
            try:
                check(bytes(damaged))
            except UnendedCodestream:
                continue
            except DamagedCodestream as error:
                reasons.add(str(error))
    assert len(reasons) > 5
    assert "" not in reasons


@pytest.mark.parametrize("values", [[0, 4095], [-2048, 2047], [-1, 2047], [5]])
def test_samples_of_the_precision_pass_with_and_without_a_sign(values):
    check_range(np.array([values], np.int16).view(np.uint16), 12)


@pytest.mark.parametrize("values", [[0, 4096], [-1, 2048], [-2049, 0], [-20, 4000]])
def test_samples_beyond_the_precision_are_damage(values):
    with pytest.raises(DamagedCodestream, match="precision"):
        check_range(np.array([values], np.int16).view(np.uint16), 12)


def test_a_lossless_image_whose_samples_leave_the_precision_is_refused(tmp_path):
    """As where turned bits have lost a code and another came up, which leaves every code sound."""
    content = imagecodecs.jpeg8_encode(radiograph(12) - np.uint16(300), 95, bitspersample=12, lossless=True)
    ds = build_cr(pixels=radiograph(12), bits_stored=12, transfer_syntax=JPEGLosslessSV1)
    ds.PixelData = encapsulate([content])

    with pytest.raises(PixelDataDamaged, match="precision"):
        next(read_frames(write_part10(ds, tmp_path / "image.dcm")))
