"""Native pixels overwritten in part are damaged; the constant parts of sound radiographs are not."""

import imagecodecs
import numpy as np
import pytest

from dicom_io.errors import PixelDataDamaged
from dicom_io.pixels.overwritten import check_overwritten
from tests.bad_input import filled_jpeg
from tests.builders import build_cr

y, x = np.mgrid[0:300, 0:260]
PIXELS = (5 * (y + x) + np.random.default_rng(0).normal(0, 20, x.shape)).clip(1, 4095).astype(np.int32)


def overwritten(filling, begin, end):
    pixels = PIXELS.copy()
    pixels.ravel()[begin:end] = filling
    return pixels


@pytest.mark.parametrize("value", [0, 4095, 777])
@pytest.mark.parametrize(("begin", "end"), [(20_100, 21_700), (0, 10_100), (60_100, 78_000), (20_050, 40_060)], ids=str)
def test_a_stretch_of_one_value_is_damage(value, begin, end):
    with pytest.raises(PixelDataDamaged, match="one value"):
        check_overwritten(overwritten(value, begin, end))


def test_a_stretch_of_noise_is_damage():
    noise = np.random.default_rng(1).integers(0, 4096, 8000)

    with pytest.raises(PixelDataDamaged, match="noise"):
        check_overwritten(overwritten(noise, 30_000, 38_000))


@pytest.mark.parametrize("first_row", [80, 200, 272])
def test_a_pattern_that_is_repeated_is_damage(first_row):
    with pytest.raises(PixelDataDamaged, match="pattern"):
        check_overwritten(imagecodecs.jpeg8_decode(filled_jpeg(first_row)).astype(np.int32))


def test_a_damaged_native_image_is_refused(read):
    ds = build_cr(pixels=overwritten(0, 20_100, 40_000).astype(np.uint16))

    with pytest.raises(PixelDataDamaged):
        read(ds)


def collimated():
    """Black around a circle, whose edges move on from row to row."""
    return np.where((y - 150) ** 2 + (x - 130) ** 2 < 90**2, PIXELS, 0)


def tilted():
    """A black border whose edge falls by a tenth from left to right, and a label of one value in it."""
    pixels = np.where(y + x // 10 > 60, PIXELS, 0)
    pixels[20:28, 40:200] = 4095
    return pixels


def with_bands():
    """Black above and below, from row to row, and two pictures with a gap."""
    pixels = PIXELS.copy()
    pixels[:40] = pixels[140:160] = pixels[270:] = 0
    return pixels


def noisy():
    return PIXELS // 4 + np.random.default_rng(3).normal(500, 150, PIXELS.shape).astype(np.int32)


@pytest.mark.parametrize("make", [collimated, tilted, with_bands, noisy])
def test_what_radiographs_have_is_none(make):
    check_overwritten(make())
