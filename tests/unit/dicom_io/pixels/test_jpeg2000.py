"""JPEG 2000 read strictly: every way to write it gives its samples, and bytes that are not the image's are refused."""

import io
import random
import struct

import imagecodecs
import numpy as np
import PIL.Image
import pytest

from dicom_io.pixels.codestream import DamagedCodestream, UnendedCodestream, whole_jpeg2000
from dicom_io.pixels.jpeg2000_coefficients import decode_jpeg2000
from dicom_io.pixels.jpeg2000_header import UnusualCodestream
from dicom_io.pixels.jpeg2000_packets import read_packets

y, x = np.mgrid[0:300, 0:260]
PIXELS = (5 * (y + x) + np.random.default_rng(0).normal(0, 20, x.shape)).clip(0, 4095).astype(np.uint16)
COLOURS = np.stack([PIXELS >> 4, PIXELS[::-1] >> 4, PIXELS >> 5], axis=-1).astype(np.uint8)


def pillow(pixels=PIXELS, **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG2000", no_jp2=True, **options)
    return buffer.getvalue()


LAYERS = {"quality_mode": "rates", "quality_layers": [40, 20, 6]}
SOUND = {
    "lossless": pillow(),
    "lossless, 12 bits": imagecodecs.jpeg2k_encode(PIXELS, codecformat="J2K", reversible=True, bitspersample=12),
    "lossless, colour": pillow(COLOURS),
    "signed": imagecodecs.jpeg2k_encode(PIXELS.astype(np.int16) - 2000, codecformat="J2K", reversible=True),
    "one level": pillow(num_resolutions=2),
    "lossy": imagecodecs.jpeg2k_encode(PIXELS, codecformat="J2K", level=50, bitspersample=12),
    "lossy, colour": pillow(COLOURS, irreversible=True, **LAYERS),
    "reversible, cut by rate": pillow(quality_mode="rates", quality_layers=[4]),
    "layers": pillow(irreversible=True, **LAYERS),
    "layers by resolution": pillow(progression="RLCP", **LAYERS),
    "small blocks and precincts": pillow(progression="RPCL", codeblock_size=(32, 32), precinct_size=(64, 64)),
    "precincts by position": pillow(progression="PCRL", precinct_size=(128, 128)),
    "precincts by component": pillow(COLOURS, progression="CPRL", precinct_size=(128, 128)),
    "tiles": pillow(tile_size=(100, 120), num_resolutions=3, codeblock_size=(32, 32)),
    "tiles, lossy": pillow(tile_size=(128, 128), irreversible=True, **LAYERS),
    "moved": pillow(offset=(13, 7), tile_size=(90, 70), tile_offset=(3, 5)),
    "high throughput": imagecodecs.htj2k_encode(PIXELS),
    "high throughput, lossy": imagecodecs.htj2k_encode(PIXELS, level=0.0001, reversible=False),
}


@pytest.mark.parametrize("name", SOUND)
def test_every_way_to_write_it_gives_its_samples(name):
    codestream = whole_jpeg2000(SOUND[name])

    assert np.array_equal(decode_jpeg2000(codestream), imagecodecs.jpeg2k_decode(codestream))


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("place", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("kind", ["cut", "zeros", "noise"])
def test_what_was_cut_or_overwritten_is_refused(name, place, kind):
    whole = SOUND[name]
    start = whole.index(b"\xff\x93") + 2
    length = max(60, len(whole) // 20)
    at = start + int((len(whole) - start - length) * place)
    noise = random.Random(length).randbytes(length).replace(b"\xff", b"\xfe")
    damaged = whole[:at] + {"cut": b"", "zeros": bytes(length), "noise": noise}[kind] + whole[at + length :]

    with pytest.raises((DamagedCodestream, imagecodecs.Jpeg2kError)):
        decode_jpeg2000(whole_jpeg2000(damaged))


@pytest.mark.parametrize("name", ["lossless", "lossy", "layers", "tiles", "high throughput"])
def test_one_bit_is_enough_or_changes_next_to_nothing(name):
    """The decoder is thrown off by one bit, and all that follows in the code-block is made up."""
    whole, refused = SOUND[name], 0
    right = imagecodecs.jpeg2k_decode(whole).astype(int)
    for place in np.linspace(0.3, 0.95, 12):
        damaged = bytearray(whole)
        damaged[int(len(whole) * place)] ^= 0x10
        try:
            samples = decode_jpeg2000(whole_jpeg2000(bytes(damaged)))
        except (DamagedCodestream, imagecodecs.Jpeg2kError):
            refused += 1
        else:
            assert (abs(samples - right) > 41).mean() < 0.02

    assert refused >= (2 if name == "high throughput" else 4)


def test_boxes_around_and_zeros_behind_are_left_aside():
    boxed = io.BytesIO()
    PIL.Image.fromarray(PIXELS).save(boxed, "JPEG2000", no_jp2=False)

    assert whole_jpeg2000(boxed.getvalue() + bytes(40)) == SOUND["lossless"]


def test_a_tile_part_without_length_ends_with_the_codestream():
    codestream = bytearray(SOUND["lossless"])
    at = codestream.index(b"\xff\x90") + 6
    codestream[at : at + 4] = bytes(4)

    assert np.array_equal(decode_jpeg2000(whole_jpeg2000(bytes(codestream) + b"\0")), PIXELS)
    with pytest.raises(UnendedCodestream):
        whole_jpeg2000(bytes(codestream[:-2]))


def test_a_tile_part_that_is_not_as_long_as_it_says_is_refused():
    codestream = bytearray(SOUND["lossless"])
    at = codestream.index(b"\xff\x90") + 6
    (length,) = struct.unpack_from(">I", codestream, at)
    for wrong in (length - 4, 13):
        struct.pack_into(">I", codestream, at, wrong)
        with pytest.raises(DamagedCodestream):
            whole_jpeg2000(bytes(codestream))


@pytest.mark.timeout(30)
def test_a_header_that_declares_millions_of_blocks_is_not_followed():
    codestream = bytearray(SOUND["lossless"])
    struct.pack_into(">II", codestream, 8, 60000, 60000)
    struct.pack_into(">II", codestream, 24, 60000, 60000)
    coding = codestream.index(b"\xff\x52")
    codestream[coding + 10 : coding + 12] = b"\0\0"  # code-blocks of 4 x 4

    with pytest.raises((UnusualCodestream, DamagedCodestream)):
        read_packets(bytes(codestream))


def test_bytes_changed_in_the_header_give_a_reason_and_nothing_else():
    chance, refused = random.Random(3), 0
    for name in ("lossless", "layers", "tiles", "high throughput"):
        whole = SOUND[name]
        for _ in range(100):
            damaged = bytearray(whole)
            for _ in range(2):
                damaged[chance.randrange(2, whole.index(b"\xff\x93") + 30)] = chance.randrange(256)
            try:
                read_packets(whole_jpeg2000(bytes(damaged)))
            except (DamagedCodestream, UnusualCodestream):
                refused += 1

    assert refused > 200
