"""Compressed frames: a codestream's own size is known before any decoder sees it, and what is none is refused."""

import io
import struct

import numpy as np
import PIL.Image
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, JPEGExtended12Bit, JPEGLSLossless

from dicom_io.codestream import CodestreamSize, jpeg2000_size, jpeg_size
from dicom_io.errors import PixelDataTruncated, PixelsUndecodable
from tests.builders import build_cr, ramp

# OpenJPEG encodes nothing smaller than its six resolutions
LARGE = ramp(64, 96)
FULL_WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def encapsulated(frame, transfer_syntax, **overrides):
    ds = build_cr(transfer_syntax=transfer_syntax, **overrides)
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].is_undefined_length = True
    return ds


def jpeg_header(rows, columns, samples=1, precision=8, marker=0xC1):
    frame_header = struct.pack(">BBHBHHB", 0xFF, marker, 8 + 3 * samples, precision, rows, columns, samples)
    return (
        b"\xff\xd8\xff\xe0\x00\x04AB"
        + frame_header
        + b"\x01\x11\x00" * samples
        + b"\xff\xda\x00\x02"
        + bytes(40)
        + b"\xff\xd9"
    )


def test_a_codestream_larger_than_the_header_says_is_refused_before_decoding(read):
    with pytest.raises(PixelsUndecodable, match="60000 x 60000 with 1 samples, the header says 24 x 32"):
        read(encapsulated(jpeg_header(60000, 60000), JPEGExtended12Bit))


def test_a_jpeg2000_codestream_of_another_size_is_refused_before_decoding(read):
    ds = build_cr(pixels=LARGE)
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    ds.Rows, ds.Columns = 96, 64

    with pytest.raises(PixelsUndecodable, match="64 x 96 with 1 samples, the header says 96 x 64"):
        read(ds)


def test_a_progressive_jpeg_is_refused(read):
    with pytest.raises(PixelsUndecodable, match="kind"):
        read(encapsulated(jpeg_header(24, 32, marker=0xC2), JPEGExtended12Bit))


@pytest.mark.parametrize("transfer_syntax", [JPEGExtended12Bit, JPEG2000Lossless, JPEGLSLossless])
def test_bytes_that_are_no_codestream_are_refused(read, transfer_syntax):
    with pytest.raises(PixelsUndecodable, match="does not begin as such a codestream"):
        read(encapsulated(b"not an image" * 10, transfer_syntax))


def test_what_no_decoder_reads_names_the_transfer_syntax(read):
    with pytest.raises(PixelsUndecodable, match=r"JPEG Extended .*1\.2\.840\.10008\.1\.2\.4\.51.*frame 1"):
        read(encapsulated(jpeg_header(24, 32, precision=12), JPEGExtended12Bit))


def test_a_jpeg_extended_of_eight_bits_is_read(read):
    pixels = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[:, np.newaxis], 32, axis=1)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=100)

    (frame,) = read(
        encapsulated(buffer.getvalue(), JPEGExtended12Bit, pixels=pixels, WindowCenter=128, WindowWidth=256)
    )

    assert frame.pixels == pytest.approx(pixels / 255, abs=0.02)


@pytest.mark.parametrize("marker", [0xC0, 0xC1, 0xC3, 0xF7])
def test_the_size_of_a_jpeg_is_found_behind_other_segments(marker):
    frame = jpeg_header(480, 640, samples=3, precision=12, marker=marker)

    assert jpeg_size(frame) == CodestreamSize(rows=480, columns=640, samples=3, precision=12)


@pytest.mark.parametrize("length", range(18))
def test_a_jpeg_that_ends_before_its_size_has_none(length):
    assert jpeg_size(jpeg_header(480, 640)[:length]) is None


def test_the_size_of_a_jpeg2000_counts_from_its_origin():
    siz = struct.pack(">HHIIIIIIIIHBBB", 41, 0, 140, 90, 100, 50, 40, 40, 0, 0, 1, 0x8B, 1, 1)
    frame = b"\xff\x4f\xff\x51" + siz

    assert jpeg2000_size(frame) == CodestreamSize(rows=40, columns=40, samples=1, precision=12)
    boxes = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x0aftyp.." + b"\x00\x00\x00\x00jp2c"
    assert jpeg2000_size(boxes + frame) == jpeg2000_size(frame)
    assert jpeg2000_size(frame[:-4]) is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("length", [0, 1, 7])
def test_a_box_without_length_stops_the_walk_and_not_the_worker(read, length):
    boxes = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + length.to_bytes(4, "big") + b"ftyp" + bytes(80)

    with pytest.raises(PixelsUndecodable, match="does not begin as such a codestream"):
        read(encapsulated(boxes, JPEG2000Lossless))


def test_a_frame_without_its_end_is_truncated_rather_than_grey(read):
    ds = build_cr(pixels=LARGE, **FULL_WINDOW)
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    codestream = get_frame(ds.PixelData, 0, number_of_frames=1)

    with pytest.raises(PixelDataTruncated, match="frame 1 ends before its end marker"):
        read(encapsulated(codestream[: len(codestream) // 2], JPEG2000Lossless, pixels=LARGE))
