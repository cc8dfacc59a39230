"""The check of encodings: the product's own ways in agree, and the check sees it when they do not."""

import sys
from pathlib import Path

import numpy as np
import pytest

from models.types import Decision, ImageAnalysis, ScoredBox
from tests.bundles import write_tiny_bundle
from tests.training_data import write_data
from training.dataset import load


@pytest.fixture(scope="module")
def encodings():
    """`deploy/check_encodings.py`, which stands beside the script it builds DICOM with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "deploy")
        import check_encodings  # noqa: PLC0415 - found by the path above

        yield check_encodings


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "data"
    write_data(folder, train=2, valid=4)
    return load(folder, "valid")


def analysis(probability: float, *boxes: ScoredBox) -> ImageAnalysis:
    return ImageAnalysis(probability, boxes, Decision.PRESENT, 0.1)


@pytest.mark.parametrize("name", ["monochrome2", "monochrome1"])
def test_twelve_bits_and_either_polarity_give_the_pictures_grey_values(encodings, radiographs, tmp_path, name):
    pixels = encodings.read_encoded(radiographs[1], encodings.ENCODINGS[name], tmp_path)

    assert np.abs(pixels - radiographs[1].pixels()).max() < 1e-3


def test_a_wide_window_darkens_and_a_tight_one_clips(encodings, radiographs, tmp_path):
    wide, tight = (
        encodings.read_encoded(radiographs[1], encodings.ENCODINGS[name], tmp_path)
        for name in ("wide_window", "tight_window")
    )

    assert np.ptp(wide) < 0.6
    assert (tight == 1).mean() > 0.005


def test_every_encoding_of_an_image_gets_the_same_answer(encodings, radiographs, tmp_path, monkeypatch):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    data = radiographs[0].path.parents[1]
    arguments = ["--data", data, "--bundle", bundle, "--images", 2, "--out", tmp_path]
    monkeypatch.setattr(sys, "argv", ["check_encodings", *map(str, arguments)])

    encodings.main()

    assert "than is allowed: none" in (tmp_path / "check-encodings.json").read_text()


def test_a_probability_or_a_box_that_moves_too_far_is_not_allowed(encodings):
    here, there = ScoredBox(10, 10, 40, 40, 0.9), ScoredBox(13, 10, 43, 40, 0.9)
    near, moved, other, lost = (encodings.Differences() for _ in range(4))
    near.add(analysis(0.50, here), analysis(0.51, here), 0.5)
    moved.add(analysis(0.50, here), analysis(0.50, there), 0.5)
    other.add(analysis(0.50, here), analysis(0.61, here), 0.5)
    lost.add(analysis(0.50, here), analysis(0.50), 0.5)

    assert [each.summary()["allowed"] for each in (near, moved, other)] == [True, False, False]
    assert moved.summary()["median_box_difference_pixels"] == 3
    assert (lost.summary()["boxes"], lost.summary()["boxes_found_again"]) == (1, 0)
