"""What is no radiograph of a limb must not be 'absent': the shipped bundle's measure of unlikeness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch

import training.classifier.unlikeness as unlikeness_of_bundles
from dicom_io.pixels.frames import read_frames
from models.bundle import Bundle, load_bundle
from models.images import read_image
from models.vgg import map_channels
from tests.bundles import WIDTH, write_tiny_bundle
from tests.integration.dicom_io.pixels.test_real_files import real_file
from tests.product import ROOT
from training.classifier.unlikeness import add, fitted
from training.experiments.unlike_images import MADE, check_of, made, unlikeness

PICTURES = ROOT / "tests" / "data" / "fracatlas"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle()


@pytest.mark.parametrize("kind", sorted(MADE))
def test_what_was_never_an_x_ray_is_unlike(kind: str, bundle: Bundle) -> None:
    values = [unlikeness(bundle, pixels) for pixels in made(kind, [(512, 400)])]

    assert min(values) > 1


def test_each_kind_has_images_of_its_own() -> None:
    first = {next(made(kind)).tobytes() for kind in MADE}

    assert len(first) == len(MADE)


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_a_photograph_is_unlike(name: str, bundle: Bundle) -> None:
    photograph = Path(sklearn.datasets.__file__).parent / "images" / name

    assert unlikeness(bundle, read_image(photograph)) > 1


@pytest.mark.parametrize(
    "name",
    ["RG1_UNCR.dcm", "693_UNCI.dcm", "MR-SIEMENS-DICOM-WithOverlays.dcm", "US1_UNCI.dcm", "examples_rgb_color.dcm"],
)
def test_a_chest_and_other_modalities_are_unlike(name: str, bundle: Bundle) -> None:
    assert unlikeness(bundle, next(read_frames(real_file(name))).pixels) > 1


def test_a_limb_from_another_hospital_is_known(bundle: Bundle) -> None:
    assert unlikeness(bundle, next(read_frames(real_file("RG3_UNCR.dcm"))).pixels) < 1


def test_radiographs_of_valid_are_known(bundle: Bundle) -> None:
    values = [unlikeness(bundle, read_image(path)) for path in sorted(PICTURES.glob("*.jpg"))[::8]]

    assert max(values) < 1


def test_a_bundle_without_the_measure_is_refused_by_the_check(tmp_path: Path) -> None:
    tiny = load_bundle(write_tiny_bundle(tmp_path))

    with pytest.raises(ValueError, match="no measure"):
        unlikeness(tiny, np.linspace(0, 1, 6400, dtype=np.float32).reshape(80, 80))


def cloud(images: int, seed: int) -> torch.Tensor:
    """Draw pooled features that lie near a plane."""
    points = torch.rand(images, 3, generator=torch.Generator().manual_seed(seed))
    return points @ torch.rand(3, 20, generator=torch.Generator().manual_seed(0))


def test_one_in_a_hundred_of_the_training_images_is_unlike_those_of_other_folds() -> None:
    measure = fitted(cloud(2000, seed=1), components=3)

    same, others = cloud(2000, seed=2), 3 - cloud(200, seed=3)
    assert (measure(same) > 1).float().mean() == pytest.approx(0.01, abs=0.008)
    assert (measure(others) > 1).all()


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_a_limit_that_is_none_lets_nothing_pass(limit: float) -> None:
    measure = fitted(cloud(200, seed=1), components=3)
    measure.limit.fill_(limit)

    assert (measure(cloud(20, seed=1)) > 1).all()


def test_a_bundle_gets_the_measure_and_keeps_its_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_tiny_bundle(tmp_path / "before")
    old = load_bundle(before)
    monkeypatch.setattr(unlikeness_of_bundles, "write_card", lambda _manifest, _path: None)  # it has no figures
    measure = fitted(torch.rand(40, 2 * map_channels(WIDTH)), components=4)

    add(before, measure, {"limit": float(measure.limit)}, tmp_path / "after")
    add(tmp_path / "after", measure, {"limit": float(measure.limit)}, tmp_path / "again")

    new = load_bundle(tmp_path / "after")
    assert new.version != old.version
    assert load_bundle(tmp_path / "again").version == new.version
    assert new.classifier.unlikeness is not None
    assert torch.equal(new.classifier.unlikeness.seen, measure.seen.half().float())
    for name, tensor in old.classifier.state_dict().items():
        assert torch.equal(new.classifier.state_dict()[name], tensor)


def test_more_of_valid_than_allowed_is_said() -> None:
    kinds = {"noise": {"images": 10, "unlike": 9}, "valid": {"images": 100, "unlike": 2}}

    assert check_of("v", kinds).verdict == "9 of 10 are unlike; of valid 2.0%, above the 1% allowed"
