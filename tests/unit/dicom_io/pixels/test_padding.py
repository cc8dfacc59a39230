"""Padding that cannot be padding: what it would blacken is the patient."""

import numpy as np
import pytest

from tests.builders import build_cr

RNG = np.random.default_rng(7)


def hand(rows=120, columns=160):
    """Return a bright oval with noise on a dark ground."""
    y, x = np.mgrid[:rows, :columns]
    shape = np.exp(-(((y - rows / 2) / (rows / 4)) ** 2 + ((x - columns / 2) / (columns / 4)) ** 2))
    return np.clip(300 + 3000 * shape + RNG.normal(0, 8, (rows, columns)), 0, 4095).astype(np.uint16)


def test_most_of_a_picture_may_be_padding(read):
    pixels = np.zeros((200, 200), dtype=np.uint16)
    pixels[60:120, 60:120] = hand(60, 60)

    (frame,) = read(build_cr(pixels=pixels, PixelPaddingValue=0))

    assert (frame.pixels[:50] == 0).all()
    assert frame.pixels[60:120, 60:120].max() == 1
    assert frame.warnings == ()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_outside_a_collimator_is_padding(read, photometric):
    pixels = hand()
    pixels[:, :40] = pixels[:, -40:] = 0

    (frame,) = read(build_cr(pixels=pixels, PixelPaddingValue=0, PhotometricInterpretation=photometric))

    assert (frame.pixels[:, :40] == 0).all()
    assert frame.warnings == ()


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}, "leaves no picture"),
        ({"PixelPaddingValue": 250, "PixelPaddingRangeLimit": 2000}, "holds the shades of the picture"),
        ({"PixelPaddingValue": 2000}, "lies within the picture"),
        ({"PixelPaddingValue": 310}, "is scattered over the picture"),
    ],
)
def test_padding_that_is_the_picture_is_left_aside(read, attributes, words):
    pixels = hand()
    pixels[60, 80:90] = 2000

    (plain,), (frame,) = read(build_cr(pixels=pixels)), read(build_cr(pixels=pixels, **attributes))

    assert frame.warnings == (f"Pixel Padding Value {words} and was left aside",)
    np.testing.assert_array_equal(frame.pixels, plain.pixels)


def test_bone_as_bright_as_the_padding_stays_bright_where_nothing_is_padded(read):
    pixels = hand()
    pixels[50:70, 70:90] = 4095  # a saturated bone, or a screw

    (frame,) = read(build_cr(pixels=pixels, PixelPaddingValue=4095))

    assert (frame.pixels[50:70, 70:90] == 1).all()


def test_a_padding_value_that_is_no_number_is_left_aside(read):
    ds = build_cr(pixels=hand())
    ds.add_new("PixelPaddingValue", "LO", "none")

    (frame,) = read(ds)

    assert frame.warnings == ("Pixel Padding Value is no number of 16 bits and was left aside",)
