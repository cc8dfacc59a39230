"""From two runs' folders to a bundle that a worker can load."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.analyzer import Analyzer
from models.bundle import load_bundle
from models.classifier import PooledClassifier
from models.detector import MobileNetV2Detector, VGG16Detector
from models.mobilenet import MobileNetV2Trunk
from models.preprocess import Preprocessing
from models.vgg import VGG16Trunk
from models.views import View
from tests.training_data import write_data
from training.bundle.export import Recipe, assemble, export, fracatlas_label, stretched, view_of
from training.bundle.parts import Design, Part, averaged, read_part, write_part
from training.data.dataset import load

WIDTH = 0.0625
TINY = Preprocessing(longest_side=128)


def write_classifier(folder: Path) -> Part:
    torch.manual_seed(0)
    design = Design("vgg16_pooled", "vgg16", TINY, {"hidden": 8}, WIDTH)
    write_part("classifier", design, VGG16Trunk(WIDTH), PooledClassifier(WIDTH, 8), folder)
    return read_part(folder, "classifier")


def write_detector(folder: Path, trunk: str) -> Part:
    torch.manual_seed(0)
    options = {"pyramid_channels": 16, "representation": 16}
    design = Design(f"faster_rcnn_{trunk}_fpn", trunk, TINY, options, WIDTH if trunk == "vgg16" else 0.25)
    if trunk == "vgg16":
        write_part("detector", design, VGG16Trunk(WIDTH), VGG16Detector(WIDTH, **options), folder)
    else:
        write_part("detector", design, MobileNetV2Trunk(0.25), MobileNetV2Detector(0.25, **options), folder)
    return read_part(folder, "detector")


def recipe(folder: Path, trunk: str, **more: object) -> Recipe:
    parts = write_classifier(folder / "classifier"), write_detector(folder / "detector", trunk)
    return Recipe(*parts, fracatlas_label("miniature", "2026-01-01", "All of it was used.", parts), **more)


def test_a_bundle_of_two_trunks_answers_and_has_a_card(tmp_path: Path) -> None:
    write_data(tmp_path / "data")

    content = export(recipe(tmp_path, "mobilenet_v2"), tmp_path / "data", tmp_path / "bundle")

    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.version.startswith("2026-01-01-miniature+")
    assert bundle.version in bundle.card
    assert set(content["files"]) == {
        "classifier_trunk.safetensors",
        "detector_trunk.safetensors",
        "classifier.safetensors",
        "detector.safetensors",
    }
    assert 0 < content["metrics"]["whole_files"]["auc"] <= 1
    analysis = Analyzer(bundle, device="cpu").analyze(load(tmp_path / "data", "valid")[0].pixels())
    assert 0 < analysis.probability < 1


def test_one_trunk_for_both_is_stored_once(tmp_path: Path) -> None:
    content = assemble(recipe(tmp_path, "vgg16"), tmp_path / "bundle")

    bundle = load_bundle(tmp_path / "bundle")
    assert set(content["files"]) == {"trunk.safetensors", "classifier.safetensors", "detector.safetensors"}
    assert bundle.classifier_trunk is bundle.detector_trunk


def test_a_bundle_s_parts_make_the_same_bundle_again(tmp_path: Path) -> None:
    made = recipe(tmp_path, "mobilenet_v2")
    first = assemble(made, tmp_path / "first")
    parts = read_part(tmp_path / "first", "classifier"), read_part(tmp_path / "first", "detector")

    second = assemble(Recipe(*parts, made.label), tmp_path / "second")

    assert second == first


def test_a_bundle_can_stretch_its_images_otherwise_than_in_training(tmp_path: Path) -> None:
    made = recipe(tmp_path, "mobilenet_v2")
    parts = stretched(made.classifier, 1.0, 99.0), stretched(made.detector, 1.0, 99.0)

    assemble(Recipe(*parts, made.label), tmp_path / "bundle")

    manifest = load_bundle(tmp_path / "bundle").manifest
    for network in (manifest.classifier, manifest.detector):
        assert network.preprocessing.stretch_percentiles == (1.0, 99.0)


def test_more_looks_find_boxes_that_lie_in_the_image(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    pixels = load(tmp_path / "data", "valid")[1].pixels()
    looks = (View(128), View(128, mirrored=True), View(160))
    for name, views in (("once", ()), ("thrice", looks)):
        assemble(recipe(tmp_path / name, "mobilenet_v2", views=views), tmp_path / name / "bundle")

    once, thrice = (
        Analyzer(load_bundle(tmp_path / name / "bundle"), device="cpu").candidates(pixels)
        for name in ("once", "thrice")
    )

    assert thrice[0] == once[0]
    assert thrice[1] != once[1]
    assert all(0 <= box.x1 < box.x2 <= pixels.shape[1] for box in thrice[1])


def test_below_its_logit_an_image_never_reaches_the_detector(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    pixels = load(tmp_path / "data", "valid")[1].pixels()
    boxes = []
    for name, from_logit in (("always", None), ("never", 99.0)):
        assemble(recipe(tmp_path / name, "mobilenet_v2", detector_from_logit=from_logit), tmp_path / name / "bundle")
        boxes.append(Analyzer(load_bundle(tmp_path / name / "bundle"), device="cpu").candidates(pixels)[1])

    assert len(boxes[0]) > 0
    assert boxes[1] == ()


def test_a_run_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    write_classifier(tmp_path)

    with pytest.raises(ValueError, match="holds a classifier"):
        read_part(tmp_path, "detector")


def test_views_are_named_by_size_and_side() -> None:
    assert [view_of("704"), view_of("896m")] == [View(704), View(896, mirrored=True)]


def test_two_runs_of_one_design_become_their_mean(tmp_path: Path) -> None:
    one = write_detector(tmp_path / "one", "mobilenet_v2")
    other = replace(one, network={name: tensor + 2.0 for name, tensor in one.network.items()})

    mean = averaged([one, other])

    assert all(torch.allclose(mean.network[name], tensor + 1.0) for name, tensor in one.network.items())
    assert all(torch.allclose(mean.trunk[name], tensor) for name, tensor in one.trunk.items())


def test_runs_of_two_designs_have_no_mean(tmp_path: Path) -> None:
    parts = [write_detector(tmp_path / name, name) for name in ("mobilenet_v2", "vgg16")]

    with pytest.raises(ValueError, match="different architectures"):
        averaged(parts)
