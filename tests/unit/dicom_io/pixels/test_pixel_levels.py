"""A frame before its window: the file's own gives what is displayed, another one brings back what that has cut off."""

import numpy as np
import pytest

from dicom_io.pixels.frames import read_frames, read_levels
from tests.builders import build_cr, ramp, write_part10

IMAGE = ramp(64, 96)


@pytest.mark.parametrize(
    "values",
    [
        {"WindowCenter": 1500, "WindowWidth": 900},
        {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 500, "WindowWidth": 900, "RescaleSlope": 2, "RescaleIntercept": -1024},
        {"WindowCenter": 1500, "WindowWidth": 900, "PhotometricInterpretation": "MONOCHROME1"},
        {"WindowCenter": 1500, "WindowWidth": 900, "PixelPaddingValue": 4095},
        {"WindowCenter": None, "WindowWidth": None},
    ],
)
def test_a_frame_through_the_files_own_window_is_the_frame_as_displayed(tmp_path, values):
    path = write_part10(build_cr(pixels=IMAGE, **values), tmp_path / "image.dcm")
    (frame,) = read_frames(path)
    levels = read_levels(path, 1)
    centre, width, _ = levels.window
    np.testing.assert_allclose(levels.windowed(centre, width), frame.pixels, atol=1e-6)


def test_another_window_shows_what_the_files_own_has_cut_off(tmp_path):
    path = write_part10(build_cr(pixels=IMAGE, WindowCenter=500, WindowWidth=900), tmp_path / "image.dcm")
    (frame,) = read_frames(path)
    assert frame.pixels[-1, -1] == frame.pixels[32, 0]
    pixels = read_levels(path, 1).windowed(2048, 4096)
    np.testing.assert_allclose(pixels, IMAGE / 4095, atol=1e-6)


def test_a_window_without_a_width_is_refused(tmp_path):
    levels = read_levels(write_part10(build_cr(pixels=IMAGE), tmp_path / "image.dcm"), 1)
    with pytest.raises(ValueError, match="width"):
        levels.windowed(100, 0)
