"""Bits above those that are declared: the picture goes on in them, or they are an overlay, or nobody can tell."""

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_io.errors import PixelModuleInvalid
from tests.builders import build_cr
from tests.unit.dicom_io.pixels.test_padding import hand

HAND = hand(200, 240)
ROWS, COLUMNS = np.mgrid[:200, :240]
LINES = ((COLUMNS % 31 == 0) | (ROWS % 17 == 0)).astype(np.uint16)
DOTS = (COLUMNS * ROWS % 13 == 0).astype(np.uint16)
NOISE = np.random.default_rng(1).integers(0, 16, HAND.shape).astype(np.uint16)


def declared(pixels, bits, **more):
    return build_cr(pixels=pixels, bits_stored=bits, WindowCenter=2048, WindowWidth=4096, **more)


@pytest.mark.parametrize("bits", [8, 9, 10, 11])
@pytest.mark.parametrize("compression", [None, RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_values_that_go_on_above_bits_stored_are_read_whole(read, bits, compression):
    ds = declared(HAND, 12)
    if compression:
        ds.compress(compression, generate_instance_uid=False)
    ds.BitsStored, ds.HighBit = bits, bits - 1

    (frame,) = read(ds)

    np.testing.assert_allclose(frame.pixels, HAND / 4095, atol=0.001)
    assert frame.warnings == (f"Bits Stored is {bits}, but the pixels use 12 bits: these were read",)


@pytest.mark.parametrize(("lowest", "extended"), [(-2048, True), (-2048, False), (-300, True), (0, True), (0, False)])
@pytest.mark.parametrize("compression", [None, RLELossless])
def test_signed_values_that_go_on_above_bits_stored_are_read_whole(read, lowest, extended, compression):
    pixels = HAND.astype(np.int32) + lowest
    words = pixels & (0xFFFF if extended else 0x0FFF)
    ds = declared(words.astype(np.uint16).view(np.int16), 10, RescaleSlope=1, RescaleIntercept=-lowest)
    if compression:
        ds.compress(compression, generate_instance_uid=False)

    (frame,) = read(ds)

    np.testing.assert_allclose(frame.pixels, HAND / 4095, atol=0.001)
    assert "Bits Stored is 10" in frame.warnings[0]


@pytest.mark.parametrize(
    "above",
    [LINES << 12, (LINES << 12) | (DOTS << 15), NOISE << 12, np.full_like(HAND, 0xF000), DOTS << 14],
    ids=["lines", "two overlays", "garbage", "all set", "dots"],
)
@pytest.mark.parametrize("compression", [None, RLELossless])
@pytest.mark.parametrize("signed", [False, True])
def test_overlays_and_garbage_above_the_stored_bits_are_ignored(read, above, compression, signed):
    pixels = HAND.astype(np.int32) - (2048 if signed else 0)
    words = ((pixels & 0x0FFF) | above).astype(np.uint16)
    shift = {"RescaleSlope": 1, "RescaleIntercept": 2048} if signed else {}
    ds = declared(words.view(np.int16) if signed else words, 12, **shift)
    if compression:
        ds.compress(compression, generate_instance_uid=False)

    (frame,) = read(ds)

    np.testing.assert_allclose(frame.pixels, HAND / 4095, atol=0.001)
    assert frame.warnings == ()


def test_an_overlay_above_values_that_go_on_is_ignored_and_they_are_read(read):
    (frame,) = read(declared(HAND | (LINES << 15), 10))

    np.testing.assert_allclose(frame.pixels, HAND / 4095, atol=0.001)


def test_a_declared_overlay_is_ignored_wherever_it_lies(read):
    """It may look like the picture: an overlay is declared by its bit position (PS3.3-2004 C.9.2)."""
    bright = (HAND > 2000).astype(np.uint16)
    ds = declared((HAND & 0x3FF) | (bright << 12), 10)
    plain = declared(HAND & 0x3FF, 10)
    for each in (ds, plain):
        each.add_new(0x60000100, "US", 16)
        each.add_new(0x60000102, "US", 12)

    (frame,), (expected,) = read(ds), read(plain)

    np.testing.assert_array_equal(frame.pixels, expected.pixels)


def test_bits_above_that_are_neither_fail_the_image(read):
    mixed = np.where(ROWS < 20, (HAND & 0x3FF) | (DOTS << 10), HAND).astype(np.uint16)

    with pytest.raises(PixelModuleInvalid, match="Bits Stored is 10"):
        read(declared(mixed, 10))


def test_stray_pixels_above_bits_stored_do_not_fail_the_image(read):
    pixels = HAND.copy()
    pixels[10, 10] = pixels[100, 100] = 0xFFFF

    (frame,) = read(declared(pixels, 12))

    np.testing.assert_allclose(np.delete(frame.pixels, [10, 100], 0), np.delete(HAND, [10, 100], 0) / 4095, atol=0.001)


def test_values_on_the_left_are_read_from_high_bit_down(read):
    (frame,) = read(declared((HAND << 4) | 0x5, 12, HighBit=15))

    np.testing.assert_allclose(frame.pixels, HAND / 4095, atol=0.001)
    assert frame.warnings == ()


@pytest.mark.parametrize("signed", [False, True])
def test_values_on_the_right_under_a_high_bit_on_the_left_are_read_where_they_are(read, signed):
    pixels = HAND.astype(np.int16) - (2048 if signed else 0)
    shift = {"RescaleSlope": 1, "RescaleIntercept": 2048} if signed else {}

    (frame,) = read(declared(pixels if signed else HAND, 12, HighBit=15, **shift))

    np.testing.assert_allclose(frame.pixels, HAND / 4095, atol=0.001)
    assert frame.warnings == ("High Bit is 15, but the pixels use the bits from 0 on: these were read",)


def test_values_without_a_sign_that_are_said_to_have_one_are_read_without(read):
    """Twelve bits, the upper half of them bone: with a sign bone would be darker than air."""
    (frame,) = read(declared(HAND.view(np.int16), 12))

    np.testing.assert_allclose(frame.pixels, HAND / 4095, atol=0.001)
    assert frame.warnings == ("Pixel Representation is 1, but the pixels have no sign: they were read without",)


@pytest.mark.parametrize("extended", [True, False])
def test_values_with_a_sign_keep_it(read, extended):
    words = ((HAND.astype(np.int32) - 1500) & (0xFFFF if extended else 0x0FFF)).astype(np.uint16)
    words = np.where(HAND > 3500, 2000, words).astype(np.uint16)

    (frame,) = read(declared(words.view(np.int16), 12, RescaleSlope=1, RescaleIntercept=1500))

    np.testing.assert_allclose(frame.pixels, np.minimum(HAND, 3500) / 4095, atol=0.001)
    assert frame.warnings == ()


def test_values_with_a_sign_that_are_said_to_have_none_are_read_with_it(read):
    pixels = HAND.astype(np.int32) - 2048
    ds = declared(pixels.astype(np.int16).view(np.uint16), 12, RescaleSlope=1, RescaleIntercept=2048)

    (frame,) = read(ds)

    np.testing.assert_allclose(frame.pixels, HAND / 4095, atol=0.001)
    assert "with a sign" in frame.warnings[0]


def test_eight_bits_declared_as_six_are_read_whole(read):
    pixels = (HAND >> 4).astype(np.uint8)

    (frame,) = read(build_cr(pixels=pixels, bits_stored=6, WindowCenter=128, WindowWidth=256))

    np.testing.assert_allclose(frame.pixels, pixels / 255, atol=0.001)
