"""What a person sees of an image is what the model saw, and it can be seen."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dicom_io.header.scope import ScopeRule
from dicom_io.pixels.frames import read_displayed, read_frames, read_levels
from dicom_io.pixels.visibility import STRETCHED, made_visible
from models.preprocess import stretch as stretch_for_the_model
from models.types import Decision, ImageAnalysis
from tests.builders import build_dx, build_sc, ramp, write_part10
from worker.files.analyze import AnalysisContext, analyze_file
from worker.files.candidates import Candidate, Kind

SPREAD = np.linspace(0, 1, 6000, dtype=np.float32).reshape(60, 100)


@pytest.mark.parametrize(
    "seen",
    [SPREAD / 16, SPREAD / 255, 1 - SPREAD / 16, 0.4 + SPREAD / 8, SPREAD**6 * 0.25],
    ids=["4 bits too dark", "8 bits too dark", "nearly white", "flat", "few pixels that are not dark"],
)
def test_an_image_that_cannot_be_seen_is_stretched_and_says_so(seen: NDArray[np.float32]) -> None:
    shown, told = made_visible(seen)

    assert told == (STRETCHED,)
    assert shown.dtype == np.float32
    assert (shown.min(), shown.max()) == pytest.approx((0, 1), abs=0.001)
    np.testing.assert_allclose(
        stretch_for_the_model(shown, (0.5, 99.5)), stretch_for_the_model(seen, (0.5, 99.5)), atol=0.02
    )


@pytest.mark.parametrize("seen", [SPREAD, SPREAD * 0.5, 0.5 + SPREAD / 2, SPREAD**3])
def test_an_image_that_can_be_seen_stays_as_its_file_displays_it(seen: NDArray[np.float32]) -> None:
    shown, told = made_visible(seen)

    assert told == ()
    assert shown is seen


def test_one_pixel_that_differs_is_not_stretched_to_nothing() -> None:
    seen = np.full((60, 100), 0.5, np.float32)
    seen[3, 4] = 0.51

    shown, _ = made_visible(seen)

    assert (shown[0, 0], shown[3, 4]) == pytest.approx((0, 1), abs=0.001)


DISPLAYS = {
    "a window sixteen times too wide": {"WindowCenter": 32768, "WindowWidth": 65536},
    "an exact one": {"WindowCenter": 32768, "WindowWidth": 65536, "VOILUTFunction": "LINEAR_EXACT"},
    "a sigmoid": {"WindowCenter": 16384, "WindowWidth": 16384, "VOILUTFunction": "SIGMOID"},
    "a window far below": {"WindowCenter": -30000, "WindowWidth": 65536},
    "inverted": {
        "PhotometricInterpretation": "MONOCHROME1",
        "PresentationLUTShape": "INVERSE",
        "WindowCenter": 32768,
        "WindowWidth": 65536,
    },
}


@pytest.mark.parametrize("display", DISPLAYS.values(), ids=DISPLAYS)
def test_a_frame_is_what_can_be_seen_of_it_whatever_its_window(display: dict[str, object], tmp_path: Path) -> None:
    path = write_part10(build_dx(pixels=ramp(60, 100), **display), tmp_path / "a.dcm")

    (frame,) = read_frames(path)

    assert STRETCHED in frame.warnings
    assert np.percentile(frame.pixels, 98) > 0.9
    assert np.percentile(frame.pixels, 2) < 0.1
    levels = read_levels(path, 1)
    np.testing.assert_allclose(levels.windowed(levels.window[0], levels.window[1]), frame.pixels, atol=0.01)


def test_a_presentation_state_asks_for_the_same(tmp_path: Path) -> None:
    path = write_part10(build_dx(pixels=ramp(60, 100), WindowCenter=32768, WindowWidth=65536), tmp_path / "a.dcm")

    softcopy = read_displayed(path, 1).softcopy

    assert softcopy is not None
    assert softcopy.window is not None
    assert softcopy.window[1] < 4200


def test_colour_that_is_nearly_black_is_stretched_too(tmp_path: Path) -> None:
    ds = build_sc(pixels=ramp(60, 80))
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = np.dstack([ramp(60, 80, bits=8).astype(np.uint8) // 16] * 3).tobytes()

    (frame,) = read_frames(write_part10(ds, tmp_path / "a.dcm"))

    assert STRETCHED in frame.warnings
    assert np.percentile(frame.pixels, 98) > 0.9


class Dark:
    """A model that keeps what it was given."""

    version = "2026-01-01-fake+00000000"

    def analyze(self, pixels: NDArray[np.float32], minimum_score: float | None = None) -> ImageAnalysis:
        self.seen = pixels
        return ImageAnalysis(0.1, (), Decision.ABSENT, 0.1)


def test_a_picture_of_16_bits_that_holds_12_is_shown_as_the_model_saw_it(tmp_path: Path) -> None:
    Image.fromarray(ramp(60, 80)).save(tmp_path / "a.png")
    model = Dark()

    answer = analyze_file(Candidate(tmp_path / "a.png", Kind.PICTURE), AnalysisContext(lambda: model, ScopeRule()))

    assert answer.pixels is model.seen
    assert answer.pixels is not None
    assert np.percentile(answer.pixels, 98) > 0.9
