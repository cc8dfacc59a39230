"""Each line of the comparison learns, is judged on what it has not seen, and leaves one JSON file."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.bundles import write_tiny_bundle
from tests.training_data import write_data, write_vgg
from training.experiments import baselines, basic_cnn, checks, robustness
from training.experiments.baseline_sets import parts_of, read_pool
from training.hardware import Hardware


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two hundred images and some, in blocks of ten numbers."""
    found = tmp_path_factory.mktemp("baselines")
    write_data(found / "data", train=200, valid=40)
    return found


@pytest.fixture(scope="module")
def task(folder):
    pool = read_pool(folder / "data", folder / "cache")
    return baselines.Task(pool, parts_of(pool, "natural", 7), 7, folder / "cache")


def test_support_vectors_find_bright_squares_and_say_on_what_they_were_measured(folder, monkeypatch):
    arguments = ["--data", folder / "data", "--set", "natural", "--model", "svm", "--out", folder / "results"]
    monkeypatch.setattr(sys, "argv", ["baselines", *map(str, [*arguments, "--cache", folder / "cache"])])

    baselines.main()

    found = json.loads((folder / "results" / "baseline-svm-natural.json").read_text())
    assert (found["kind"], found["model"], found["set"], found["seed"]) == ("baseline", "svm", "natural", 7)
    assert found["metrics"]["images"] == 40
    assert found["metrics"]["auc"] > 0.9
    assert {"accuracy", "precision", "recall", "f1", "specificity", "threshold"} <= found["metrics"].keys()
    assert found["data"]["labels.csv"]
    assert str(folder) not in json.dumps(found)


def test_a_forest_learns_too(task, monkeypatch):
    monkeypatch.setattr(baselines, "TREES", 30)

    _, metrics = baselines.compare(task, "forest")

    assert metrics["auc"] > 0.8


def test_the_small_network_gives_the_same_numbers_twice():
    random = np.random.default_rng(0)
    labels = np.arange(24) % 2 == 1
    pictures = random.random((24, 32, 32), dtype=np.float32) * (0.4 + 0.6 * labels[:, None, None])
    examples = basic_cnn.Examples(pictures.astype(np.float32), labels)
    config = replace(basic_cnn.Config(), side=32, channels=(4, 8), epochs=2, batch=8)

    once, again = (basic_cnn.train(examples, examples, config, Hardware.find("cpu")) for _ in range(2))

    assert once[1] == again[1]
    assert len(once[1]) == 2
    scores = [
        basic_cnn.score(network, pictures.astype(np.float32), Hardware.find("cpu")) for network, _ in (once, again)
    ]
    assert np.array_equal(*scores)


def test_vgg16_is_asked_for_its_weights(task):
    with pytest.raises(SystemExit, match="--weights"):
        baselines.compare(task, "vgg16")


def test_frozen_vgg16_with_a_fitted_head_is_measured(task, folder):
    write_vgg(folder / "vgg.safetensors")

    chosen, metrics = baselines.compare(replace(task, weights=folder / "vgg.safetensors"), "vgg16")

    assert chosen["longest_side"] == 224
    assert metrics["images"] == 40


def test_a_bundle_is_measured_on_valid_alone_also_in_the_balanced_set(task, folder):
    bundle = write_tiny_bundle(folder / "bundle")
    balanced = replace(task, parts=parts_of(task.pool, "balanced", 7), bundle=bundle)

    chosen, metrics = baselines.compare(balanced, "bundle")

    assert chosen["images"] == {"fit": 0, "tune": 0, "test": 40}
    assert metrics["threshold"] == 0.5


def test_every_check_leaves_its_question_and_its_verdict(folder, monkeypatch):
    arguments = ["--data", folder / "data", "--out", folder / "results", "--cache", folder / "cache"]
    monkeypatch.setattr(sys, "argv", ["checks", *map(str, arguments)])

    checks.main()

    found = [json.loads((folder / "results" / f"check-{name}.json").read_text()) for name in checks.CHECKS]
    assert all({"title", "name", "question", "method", "metrics", "verdict"} <= each.keys() for each in found)
    assert found[2]["metrics"]["pairs_across_splits"] == 0


def test_a_bundle_is_measured_under_every_change(folder, monkeypatch):
    arguments = ["--data", folder / "data", "--images", 4, "--out", folder / "results"]
    arguments += ["--bundle", write_tiny_bundle(folder / "bundle")]
    monkeypatch.setattr(sys, "argv", ["robustness", *map(str, arguments)])

    robustness.main()

    table = json.loads((folder / "results" / "check-robustness.json").read_text())["metrics"]["changes"]
    assert table.keys() == robustness.CHANGES.keys()
    assert table["unchanged"]["median_probability_change"] == 0
    assert table["noise"]["median_probability_change"] > 0
