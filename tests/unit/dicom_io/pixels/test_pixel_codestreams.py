"""Compressed frames: a codestream's own size is known before any decoder sees it, and what is none is refused."""

import io
import struct

import numpy as np
import PIL.Image
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicom_io.errors import PixelDataDamaged, PixelDataTruncated, PixelsUndecodable
from dicom_io.pixels.codestream import CodestreamSize, jpeg2000_size, jpeg_size
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


@pytest.mark.parametrize("marker", [0xC2, 0xC5, 0xC9, 0xCB])
def test_a_progressive_hierarchical_or_arithmetic_jpeg_is_refused(read, marker):
    with pytest.raises(PixelsUndecodable, match="kind"):
        read(encapsulated(jpeg_header(24, 32, marker=marker), JPEGExtended12Bit))


@pytest.mark.parametrize("transfer_syntax", [JPEGExtended12Bit, JPEG2000Lossless, JPEGLSLossless])
def test_bytes_that_are_no_codestream_are_refused(read, transfer_syntax):
    with pytest.raises(PixelsUndecodable, match="does not begin as such a codestream"):
        read(encapsulated(b"not an image" * 10, transfer_syntax))


def test_what_the_codestream_says_wrongly_names_the_transfer_syntax(read):
    with pytest.raises(PixelDataDamaged, match=r"JPEG Extended .*1\.2\.840\.10008\.1\.2\.4\.51.*frame 1 is damaged"):
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


def two_frames(transfer_syntax):
    ds = build_cr(pixels=np.stack([LARGE, LARGE[::-1]]), **FULL_WINDOW)
    ds.compress(transfer_syntax, generate_instance_uid=False)
    return ds, [get_frame(ds.PixelData, index, number_of_frames=2) for index in range(2)]


@pytest.mark.parametrize("has_bot", [True, False], ids=["offset table", "no offset table"])
@pytest.mark.parametrize("behind", [b"", bytes(64)], ids=["ends with its marker", "zeros behind"])
@pytest.mark.parametrize("transfer_syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_frame_in_several_fragments_is_put_together(read, transfer_syntax, behind, has_bot):
    ds, codestreams = two_frames(transfer_syntax)
    ds.PixelData = encapsulate([each + behind for each in codestreams], fragments_per_frame=3, has_bot=has_bot)

    first, second = read(ds)

    assert first.pixels == pytest.approx(LARGE / 4095, abs=1e-3)
    assert second.pixels == pytest.approx(LARGE[::-1] / 4095, abs=1e-3)


def test_a_wrong_offset_table_hides_no_frame(read):
    ds, codestreams = two_frames(JPEG2000Lossless)
    right = encapsulate(codestreams, fragments_per_frame=2)
    ds.PixelData = right[:12] + struct.pack("<L", 8) + right[16:]

    first, second = read(ds)

    assert first.pixels == pytest.approx(LARGE / 4095, abs=1e-3)
    assert second.pixels == pytest.approx(LARGE[::-1] / 4095, abs=1e-3)


def test_a_second_image_behind_the_declared_one_is_not_passed_over(read):
    ds, _ = two_frames(JPEG2000Lossless)
    ds.NumberOfFrames = 1

    with pytest.raises(PixelsUndecodable, match="2 images are there, 1 are declared"):
        read(ds)


@pytest.mark.parametrize("transfer_syntax", [JPEGBaseline8Bit, RLELossless, ExplicitVRLittleEndian])
def test_eight_bits_in_words_of_sixteen_are_read(read, transfer_syntax):
    pixels = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[:, np.newaxis], 96, axis=1)
    ds = build_cr(pixels=pixels.astype(np.uint16), bits_stored=8, WindowCenter=128, WindowWidth=256)
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    if transfer_syntax == RLELossless:
        ds.PixelData = encapsulate([run_lengths(bytes(pixels.size), pixels.tobytes())])
    elif transfer_syntax == JPEGBaseline8Bit:
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=100)
        ds.PixelData = encapsulate([buffer.getvalue()])
    assert (ds.BitsAllocated, ds.BitsStored) == (16, 8)

    (frame,) = read(ds)

    assert frame.pixels == pytest.approx(pixels / 255, abs=0.02)


def run_lengths(*planes):
    """Return an RLE frame of literal runs alone (PS3.5 G.3.1)."""
    segments = [b"".join(bytes([31]) + plane[at : at + 32] for at in range(0, len(plane), 32)) for plane in planes]
    offsets = [64 + sum(map(len, segments[:number])) for number in range(15)]
    header = struct.pack("<16L", len(planes), *offsets[: len(planes)], *[0] * (15 - len(planes)))
    return header + b"".join(segments)


RLE_RAMP = build_cr(pixels=LARGE)
RLE_RAMP.compress(RLELossless, generate_instance_uid=False)
RUN_LENGTHS = get_frame(RLE_RAMP.PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (RUN_LENGTHS[:40], "header is cut off"),
        (RUN_LENGTHS[:64] + b"\xff" + RUN_LENGTHS[65:], "more than its plane|ends before"),
        (RUN_LENGTHS[:-40], "ends before its plane"),
        (RUN_LENGTHS + bytes(4), "ends before its segment"),
        (b"\x03" + RUN_LENGTHS[1:], "3 segments, the image has 2"),
        (RUN_LENGTHS[:4] + RUN_LENGTHS[8:12] + RUN_LENGTHS[4:8] + RUN_LENGTHS[12:], "do not follow one another"),
    ],
)
def test_run_lengths_that_are_not_exactly_the_image_are_damaged(read, damaged, reason):
    with pytest.raises(PixelDataDamaged, match=reason):
        read(encapsulated(damaged, RLELossless, pixels=LARGE))


def test_run_lengths_may_end_with_padding(read):
    (frame,) = read(encapsulated(RUN_LENGTHS + b"\0", RLELossless, pixels=LARGE, **FULL_WINDOW))

    assert frame.pixels == pytest.approx(LARGE / 4095, abs=1e-3)
