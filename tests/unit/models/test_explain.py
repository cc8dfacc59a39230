"""The heat map lies where the classifier's word comes from, in the image's own pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import load_bundle
from models.classifier import PooledClassifier
from models.explain import grad_cam, register
from models.preprocess import fit
from tests.bundles import write_tiny_bundle
from tests.training_data import write_data
from training.data.dataset import load
from training.experiments.heat import forgetful, likeness, measure, share_inside

WIDTH = 0.0625
CELLS = torch.rand(1, 32, 8, 6, generator=torch.Generator().manual_seed(1))


def classifier(seed: int = 0) -> PooledClassifier:
    """Return a classifier whose cells are what it is given: a block 5 by chance lets next to nothing through."""
    torch.manual_seed(seed)
    network = PooledClassifier(WIDTH, hidden=8).eval()
    network.block5 = torch.nn.Identity()
    return network


def test_block_5_halves_the_trunks_map() -> None:
    heat = grad_cam(PooledClassifier(WIDTH, hidden=8).eval(), torch.rand(1, 32, 16, 12))

    assert heat.shape == (8, 6)


def test_the_map_has_a_value_for_each_cell_and_none_below_nought() -> None:
    heat = grad_cam(classifier(), CELLS)

    assert heat.shape == (8, 6)
    assert heat.dtype == np.float32
    assert heat.min() >= 0


def test_the_map_is_the_channels_weighted_by_the_logits_slope() -> None:
    network = classifier()
    cells = CELLS.clone().requires_grad_()
    network.head(cells).logits.sum().backward()

    heat = grad_cam(network, CELLS)

    expected = (cells.grad.mean((2, 3), keepdim=True) * cells).sum(1)[0].clamp(min=0)
    assert heat == pytest.approx(expected.detach().numpy())


def test_the_map_changes_when_the_last_layers_weights_are_drawn_anew() -> None:
    network = classifier()
    before = grad_cam(network, CELLS)
    torch.nn.init.normal_(network.head.outer.weight, generator=torch.Generator().manual_seed(5))

    after = grad_cam(network, CELLS)

    assert np.abs(before / before.max() - after / max(after.max(), 1e-9)).max() > 0.05


def test_a_hot_cell_lies_over_the_pixels_that_it_was_computed_from() -> None:
    letterbox = fit(1000, 600, 320)  # canvas 320 x 192, no padding: cell (row 10, column 3) is centred at (168, 56)
    heat = np.zeros((20, 12), dtype=np.float32)
    heat[10, 3] = 7.0

    pixels = register(heat, letterbox)

    assert pixels.shape == (1000, 600)
    assert pixels.max() == pytest.approx(1.0)
    row, column = np.unravel_index(int(pixels.argmax()), pixels.shape)
    assert row == pytest.approx(168 / 320 * 1000, abs=3)
    assert column == pytest.approx(56 / 320 * 1000, abs=3)


def test_heat_on_the_padding_is_not_shown() -> None:
    letterbox = fit(320, 200, 320)  # 24 columns of padding right of the image
    heat = np.zeros((20, 14), dtype=np.float32)
    heat[5, 13] = 3.0

    assert register(heat, letterbox)[:, :180].max() == 0


def test_nothing_that_speaks_for_a_fracture_is_an_empty_map() -> None:
    assert register(np.zeros((4, 4), dtype=np.float32), fit(64, 64, 64)).max() == 0


def test_the_share_inside_is_of_all_the_heat() -> None:
    heat = np.array([[3.0, 1.0], [0.0, 0.0]], dtype=np.float32)
    mask = np.array([[True, False], [False, False]])

    assert share_inside(heat, mask) == pytest.approx(0.75)
    assert share_inside(np.zeros_like(heat), mask) == 0.0


def looks_at_one_corner(pixels):
    heat = np.zeros_like(pixels)
    heat[0, 0] = 1.0
    return heat


def test_a_map_is_like_itself_whatever_its_scale_and_unlike_another() -> None:
    heat = np.random.default_rng(3).random((64, 64), dtype=np.float32)

    assert likeness(heat, heat * 3) == pytest.approx(1.0)
    assert likeness(heat, heat.max() - heat) == pytest.approx(-1.0)
    assert abs(likeness(heat, np.random.default_rng(4).random((64, 64), dtype=np.float32))) < 0.2
    assert likeness(heat, np.zeros_like(heat)) is None


def test_a_classifier_that_forgets_draws_other_maps_and_leaves_the_bundle_alone(tmp_path: Path) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path))
    pixels = np.random.default_rng(3).random((96, 64), dtype=np.float32)
    kept = {name: tensor.clone() for name, tensor in bundle.classifier.head.state_dict().items()}
    forgotten = forgetful(bundle)

    first, second = forgotten(pixels), forgotten(pixels)

    assert not np.array_equal(first, second)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in bundle.classifier.head.state_dict().items())


def test_heat_is_measured_against_the_area_of_the_boxes(tmp_path):
    write_data(tmp_path)
    fractured = replace(load(tmp_path, "valid")[0], fractured=True, boxes_xyxy=((0.0, 0.0, 10.0, 10.0),))
    elsewhere = replace(fractured, boxes_xyxy=((20.0, 20.0, 30.0, 30.0),))

    found = measure(looks_at_one_corner, lambda pixels: pixels, [fractured, elsewhere])

    rows, columns = fractured.pixels().shape
    assert (found["images"], found["hottest_pixel_inside"], found["compared_with_forgotten"]) == (2, 1, 2)
    assert found["heat_inside_mean"] == pytest.approx(0.5)
    assert found["area_mean"] == pytest.approx(100 / (rows * columns))
    assert found["times_even_mean"] == pytest.approx(0.5 * rows * columns / 100)
