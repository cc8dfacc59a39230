"""The check of encodings: the product's own ways in agree, and the check sees it when they do not."""

import sys

import numpy as np
import pytest

from models.types import Decision, ImageAnalysis, ScoredBox
from tests.bundles import write_tiny_bundle
from tests.product import ROOT
from tests.training_data import write_data
from training.data.dataset import load


@pytest.fixture(scope="module")
def encodings():
    """`deploy/check_encodings.py`, which stands beside the script it builds DICOM with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "deploy")
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


HERE, THERE, ELSEWHERE = (ScoredBox(x, 10, x + 30, 40, 0.9) for x in (10, 13, 80))


@pytest.mark.parametrize(
    ("other", "allowed"),
    [
        (analysis(0.51, HERE), True),
        (analysis(0.50, THERE), False),
        (analysis(0.61, HERE), False),
        (analysis(0.50), False),
        (analysis(0.50, HERE, ELSEWHERE), False),
    ],
    ids=["near", "moved", "another probability", "lost", "added"],
)
def test_a_probability_or_box_that_moves_too_far_and_a_box_too_few_or_many_are_not_allowed(encodings, other, allowed):
    differences = encodings.Differences()

    differences.add(analysis(0.50, HERE), other, 0.5)

    assert differences.summary()["allowed"] is allowed


def test_boxes_that_moved_were_lost_or_came_are_counted(encodings):
    moved, lost, added = (encodings.Differences() for _ in range(3))
    moved.add(analysis(0.50, HERE), analysis(0.50, THERE), 0.5)
    lost.add(analysis(0.50, HERE), analysis(0.50), 0.5)
    added.add(analysis(0.50), analysis(0.50, ELSEWHERE), 0.5)

    counts = [
        tuple(each.summary()[name] for name in ("boxes", "boxes_found_again", "boxes_added"))
        for each in (moved, lost, added)
    ]
    assert counts == [(1, 1, 0), (1, 0, 0), (0, 0, 1)]
    assert moved.summary()["median_box_difference_pixels"] == 3
