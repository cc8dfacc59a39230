"""The classifier's first stage in miniature: perceptrons on what a frozen network sees."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.classifier import CLASSIFIERS, PooledHead, pool
from models.vgg import VGG16Trunk
from tests.training_data import write_data, write_vgg
from training.bundle.parts import read_part
from training.classifier.options import ClassifierConfig
from training.classifier.probe import Frozen, ProbeConfig, looks_at, mean_of, pooled_features, some_of
from training.classifier.train import run
from training.data.dataset import load
from training.hardware import Hardware
from training.loop import Places

TINY = ClassifierConfig(stage="probe", longest_side=128, probe=ProbeConfig(heads=2, hidden=16, epochs=2))
CPU = Hardware(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True, scope="module")
def single_precision() -> Iterator[None]:
    """Compute in float32 on every processor, as what the runs are compared with does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.hardware.choose_dtype", lambda _device: torch.float32)
        yield


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp("probe")
    write_data(folder / "data", train=64, valid=16)
    write_vgg(folder / "vgg.safetensors")
    return Places(folder / "data", folder / "run", folder / "vgg.safetensors")


def test_the_probe_alone_is_a_whole_classifier_and_keeps_its_features(places: Places) -> None:
    there = replace(places, run=places.run.with_name("probe"))
    config = replace(TINY, mirrored=True)
    run(there, config)
    written = (there.run / "features.safetensors").stat().st_mtime_ns

    run(there, config)

    assert (there.run / "features.safetensors").stat().st_mtime_ns == written
    assert len(load_file(there.run / "features.safetensors")) == 2 * 64 + 16
    assert read_part(there.run, "classifier").design.architecture == "vgg16_pooled"
    assert json.loads((there.run / "run.json").read_text())["metrics"]["auc"] > 0.8


def test_the_head_is_shown_by_the_product_what_it_was_fitted_on(places: Places) -> None:
    there = replace(places, run=places.run.with_name("shown"))
    run(there, TINY)
    part, look = read_part(there.run, "classifier"), looks_at(load(places.data, "valid"))[0]
    trunk = VGG16Trunk(part.design.width)
    trunk.load_state_dict(part.trunk)
    classifier = CLASSIFIERS[part.design.architecture](width=part.design.width, **part.design.options)
    classifier.load_state_dict(part.network)
    kept = load_file(there.run / "features.safetensors")[look.key]

    with torch.inference_mode():
        maps = trunk(torch.from_numpy(look.canvas(part.design.preprocessing, trunk.normalisation))[None])
        logit = classifier.eval()(maps).logits
        torch.testing.assert_close(classifier.head.judge(kept[None]), logit, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(classifier.head.judge(pool(classifier.block5(maps))), logit, rtol=1e-4, atol=1e-5)


def test_the_probe_learns_from_as_many_normal_images_as_it_is_told(places: Places) -> None:
    everything = load(places.data, "train")
    fractured = [item for item in everything if item.fractured]

    some = some_of(everything, 0.5, seed=3)

    assert [item for item in some if item.fractured] == fractured
    assert len(some) - len(fractured) == round(len(fractured) / 2)
    assert some == some_of(everything, 0.5, seed=3) != some_of(everything, 0.5, seed=4)
    assert everything == some_of(everything, None, seed=3) == some_of(everything, 1000.0, seed=3)


def test_features_of_another_network_or_input_are_not_taken(places: Places, tmp_path: Path) -> None:
    looks = looks_at(load(places.data, "valid")[:2])
    networks = [Frozen.read(places.weights, replace(TINY, longest_side=side).preprocessing, 8) for side in (128, 160)]

    first, second = (pooled_features(network, looks, tmp_path, CPU) for network in networks)

    assert first.shape == second.shape == (2, 64)
    assert not torch.equal(first, second)
    maxima = pooled_features(replace(networks[1], strongest=1), looks, tmp_path, CPU)
    assert not torch.equal(second, maxima)


def test_features_of_a_picture_that_was_changed_are_not_taken(places: Places, tmp_path: Path) -> None:
    shutil.copytree(places.data, tmp_path / "data")
    looks = looks_at(load(tmp_path / "data", "valid")[:2])
    network = Frozen.read(places.weights, TINY.preprocessing, 8)
    before = pooled_features(network, looks, tmp_path, CPU)
    shutil.copy(looks[1].radiograph.path, looks[0].radiograph.path)

    after = pooled_features(network, looks, tmp_path, CPU)

    assert not torch.equal(before[0], after[0])
    assert torch.equal(after[0], after[1])


def test_joined_heads_answer_with_the_mean_of_theirs() -> None:
    heads = [PooledHead(6, 4).eval() for _ in range(3)]
    features = torch.randn(5, 6)

    joint = mean_of(heads)

    mean = torch.stack([head.judge(features) for head in heads]).mean(0)
    torch.testing.assert_close(joint.judge(features), mean)
