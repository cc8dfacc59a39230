"""The classifier's training in miniature: a bright square for a fracture, a sixteenth of VGG16's width."""

import json
import math
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.classifier import CLASSIFIERS, LocationMapClassifier, pool
from models.preprocess import normalise, prepare
from models.vgg import VGG16Trunk
from tests.training_data import VGG_WIDTH, write_data, write_vgg
from training.bundle.parts import Design, read_part, write_part
from training.classifier import train as train_classifier
from training.classifier.fine_tuning import Tuning, points_at
from training.classifier.options import ClassifierConfig, read_options
from training.classifier.probe import ProbeConfig
from training.classifier.train import ClassifierTraining, run, training_of
from training.data.dataset import load
from training.data.samples import TrainingSample
from training.errors import CannotTrain
from training.hardware import Hardware
from training.loop import Places

TINY = ClassifierConfig(
    longest_side=128, epochs=2, batch=8, probe=ProbeConfig(heads=2, hidden=16, epochs=2), tuning=Tuning(auxiliary=0.1)
)
CPU = Hardware(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True, scope="module")
def single_precision() -> Iterator[None]:
    """Compute in float32 on every processor, as what the runs are compared with does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.hardware.choose_dtype", lambda _device: torch.float32)
        yield


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp("classifier")
    write_data(folder / "data", train=64, valid=16)
    write_vgg(folder / "vgg.safetensors")
    return Places(folder / "data", folder / "run", folder / "vgg.safetensors")


@pytest.fixture(scope="module")
def straight(places: Places) -> Path:
    run(places, TINY)
    return places.run


def begun(places: Places, name: str, config: ClassifierConfig = TINY) -> ClassifierTraining:
    return training_of(replace(places, run=places.run.with_name(name)), config, CPU)


def some(training: ClassifierTraining, count: int) -> list[list[TrainingSample]]:
    return list(training.sampler.batches(training.config.batch, range(training.step, training.step + count)))


def test_a_run_leaves_its_record_its_curves_and_a_network_that_can_be_read_again(straight: Path) -> None:
    record = json.loads((straight / "run.json").read_text())

    assert [entry["step"] for entry in record["history"]] == [0, 8, 16]
    assert {"loss_image", "loss_location", "loss_body_parts", "auc", "pointing"} <= set(record["history"][1])
    assert record["metrics"]["auc"] == max(entry["auc"] for entry in record["history"])
    assert record["config"]["tuning"]["optimizer"] == "adamw"
    assert set(record["data"]) == {"labels.csv", "boxes_train.json", "boxes_valid.json", "images"}
    assert (straight / "history.csv").exists()
    assert (straight / "curves.png").exists()
    assert read_part(straight, "classifier").design.architecture == "vgg16_pooled_map"


def test_the_exported_network_answers_as_the_trained_one_did(straight: Path, places: Places) -> None:
    part = read_part(straight, "classifier")
    trunk = VGG16Trunk(part.design.width)
    trunk.load_state_dict(part.trunk)
    classifier = CLASSIFIERS[part.design.architecture](width=part.design.width, **part.design.options)
    classifier.load_state_dict(part.network)
    classifier.eval()
    scores = []
    for radiograph in load(places.data, "valid"):
        canvas, _ = prepare(radiograph.pixels(), part.design.preprocessing)
        with torch.inference_mode():
            scores.append(
                float(classifier(trunk(torch.from_numpy(normalise(canvas, trunk.normalisation))[None])).logits[0])
            )

    truth = [item.fractured for item in load(places.data, "valid")]
    recorded = json.loads((straight / "run.json").read_text())["metrics"]["auc"]
    assert train_classifier.auc(truth, scores) == pytest.approx(recorded, abs=0.02)


def test_the_same_seed_gives_the_same_weights_also_after_an_interruption(straight: Path, places: Places) -> None:
    training = begun(places, "again")
    training.evaluate()
    for samples in some(training, 5):
        training.learn(samples)
    training.save()

    run(replace(places, run=training.record.folder), TINY)

    first, second = (torch.load(f / "checkpoint.pt", weights_only=True) for f in (straight, training.record.folder))
    assert second["step"] == first["step"] == 16
    for kind in ("classifier", "average"):
        for name, tensor in first[kind].items():
            assert torch.equal(tensor, second[kind][name]), name


def test_heads_learn_first_then_the_last_two_blocks_and_the_lower_ones_never(places: Places) -> None:
    training = begun(places, "gently")
    before = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    changed = []

    for samples in some(training, training.config.evaluate_every + 1):
        training.learn(samples)
        now = training.network.state_dict()
        changed.append({name for name in before if not torch.equal(before[name], now[name])})

    assert any(name.startswith("classifier.head.location") for name in changed[0])
    assert not any("features" in name for name in changed[training.config.evaluate_every - 1])
    blocks = {
        int(name.split("features.")[1].split(".")[0])
        for name in changed[training.config.evaluate_every]
        if "features" in name
    }
    assert blocks == {17, 19, 21, 24, 26, 28}


def test_a_block_s_rate_falls_with_its_depth(places: Places) -> None:
    training = begun(places, "rates", replace(TINY, frozen_epochs=0, tuning=Tuning(unfreeze_from_block=3)))

    bases = [group["base"] for group in training.optimizer.param_groups]

    assert bases == pytest.approx([5e-4, 1e-4, 3e-5, 1.5e-5, 7.5e-6])


def test_a_few_steps_on_the_same_images_lower_every_loss(places: Places) -> None:
    tuning = Tuning(rate=5e-3, block_rate=1e-3, auxiliary=1.0)
    training = begun(places, "overfit", replace(TINY, epochs=5, warmup=1, frozen_epochs=0, tuning=tuning))
    samples = some(training, 1)[0]

    for _ in range(training.config.steps):
        training.learn(samples)

    for name in ("loss_image", "loss_location", "loss_body_parts"):
        losses = [loss[name] for loss in training.losses]
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5]), name


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_other_optimizers_learn_from_chips_too(optimizer: str, places: Places) -> None:
    tuning = Tuning(optimizer=optimizer)
    training = begun(places, optimizer, replace(TINY, chips=64, warmup=1, frozen_epochs=0, tuning=tuning))

    losses = [training.learn(samples) for samples in some(training, 2)]

    assert np.isfinite(losses).all()
    assert "loss_body_parts" not in training.losses[0]


def test_a_run_that_gets_no_better_ends_early(places: Places) -> None:
    training = begun(places, "stale", replace(TINY, patience=2))
    areas = [0.7, 0.9, 0.8, 0.85]
    ends = []

    for area in areas:
        training.record.history.append({"auc": area})
        ends.append(training.done)

    assert ends == [False, False, False, True]


def test_fine_tuning_moves_the_logit_by_what_the_head_was_fitted_on(places: Places) -> None:
    config = replace(TINY, normals=0.5, stage="both")
    there = replace(places, run=places.run.with_name("fewer"))
    run(there, replace(config, stage="probe"))
    fitted = read_part(there.run, "classifier").network["head.outer.bias"]

    training = begun(places, "fewer-both", config)

    moved = training.network.classifier.head.pooled.outer.bias
    torch.testing.assert_close(moved, fitted - math.log(2), rtol=0, atol=0.06)  # two fractured ones to one normal


def test_fine_tuning_begins_with_the_fitted_answer_and_a_silent_map(places: Places) -> None:
    there = replace(places, run=places.run.with_name("start"))
    run(there, replace(TINY, stage="probe"))
    training = begun(replace(places, start=(there.run,)), "from_start", replace(TINY, stage="finetune"))
    head = training.network.classifier.head
    torch.nn.init.zeros_(head.location[2].weight)

    maps = torch.rand(3, 32, 8, 7)

    with torch.no_grad():
        output = head.eval()(maps)
        fitted = head.pooled.judge(pool(maps, strongest=8))
    torch.testing.assert_close(output.logits, fitted)
    assert torch.equal(output.location_logits, torch.full((3, 8, 7), -4.0))


def test_a_head_is_fitted_anew_on_a_tuned_network_and_both_blocks_judge_it(
    straight: Path, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune = [replace(item, split="tune") for item in load(places.data, "train")[:6]]
    monkeypatch.setattr("training.data.dataset.for_tuning", lambda _: tune)

    run(replace(places, weights=None, start=(straight,), run=tmp_path), replace(TINY, stage="probe"))

    tuned, fitted = read_part(straight, "classifier"), read_part(tmp_path, "classifier")
    assert fitted.design.architecture == "vgg16_pooled"
    assert all(torch.equal(tensor, fitted.trunk[name]) for name, tensor in tuned.trunk.items())
    for name, tensor in fitted.network.items():
        if name.startswith("block5."):
            assert torch.equal(tensor, tuned.network[name]), name
    metrics = json.loads((tmp_path / "run.json").read_text())["metrics"]
    assert metrics["blocks"].keys() == {"valid", "tune"}
    assert len(load_file(tmp_path / "features.safetensors")) == 64 + 16


@pytest.mark.parametrize("architecture", ["vgg16_pooled_map", "vgg16_location_map"])
def test_a_run_goes_on_from_another_one_s_network(architecture: str, straight: Path, places: Places) -> None:
    start = straight
    if architecture == "vgg16_location_map":
        start = straight.with_name("location_map")
        design = Design(architecture, "vgg16", TINY.preprocessing, {"hidden": 8}, VGG_WIDTH)
        write_part("classifier", design, VGG16Trunk(VGG_WIDTH), LocationMapClassifier(VGG_WIDTH, 8), start)

    training = begun(replace(places, weights=None, start=(start,)), f"next_{architecture}")

    for name, tensor in read_part(start, "classifier").network.items():
        assert torch.equal(tensor, training.network.classifier.state_dict()[name]), name
    assert np.isfinite(training.learn(some(training, 1)[0]))


def test_the_map_s_peak_touches_a_box_or_does_not() -> None:
    location = np.zeros((4, 4), np.float32)
    location[1, 2] = 1

    assert points_at(location, np.array([[40, 20, 60, 30]], np.float32))
    assert not points_at(location, np.array([[0, 0, 31, 60], [50, 0, 60, 15]], np.float32))


def test_losses_that_are_no_numbers_stop_the_run(places: Places) -> None:
    training = begun(places, "broken")
    torch.nn.init.constant_(training.network.classifier.head.peaks.bias, float("nan"))

    with pytest.raises(FloatingPointError, match="try lower rates"):
        training.learn(some(training, 1)[0])


def test_a_run_does_not_go_on_from_other_weights(straight: Path, places: Places, tmp_path: Path) -> None:
    record = json.loads((straight / "run.json").read_text())
    assert list(record["started_from"]) == ["weights"]
    here = replace(places, run=shutil.copytree(straight, tmp_path / "run"), start=(straight,))

    with pytest.raises(CannotTrain, match="began with other weights"):
        training_of(here, TINY, CPU)


def test_it_learns_in_mixed_precision_too(straight: Path, places: Places) -> None:
    there = replace(places, run=places.run.with_name("bfloat16"), start=(straight,))
    training = training_of(there, replace(TINY, stage="finetune"), Hardware(torch.device("cpu"), torch.bfloat16))

    for samples in some(training, 2):
        training.learn(samples)

    assert np.isfinite([list(loss.values()) for loss in training.losses]).all()
    assert all(each.dtype == torch.float32 for each in training.network.parameters())


def test_a_folder_that_holds_another_configuration_s_run_is_refused(straight: Path, places: Places) -> None:
    with pytest.raises(CannotTrain, match="another configuration"):
        run(places, replace(TINY, seed=12))


def test_the_command_s_options_reach_the_run(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = ["--data", str(places.data), "--run", str(tmp_path), "--weights", str(places.weights), "--stage", "probe"]
    words += ["--longest-side", "128", "--probe-heads", "1", "--probe-epochs", "1", "--rate", "0.002"]
    monkeypatch.setattr(sys, "argv", ["train_classifier", *words])

    train_classifier.main()

    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["probe"]["heads"] == 1
    assert record["config"]["tuning"]["rate"] == 0.002
    assert '"step": 0' in capsys.readouterr().out


def test_the_command_says_what_is_missing(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--data", str(places.data), "--run", str(tmp_path), "--stage", "finetune", "--longest-side", "128"]
    monkeypatch.setattr(sys, "argv", ["train_classifier", *words])

    with pytest.raises(SystemExit, match="needs --start"):
        train_classifier.main()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--chips", "300", "--chips takes a multiple of 32"),  # they would not fill the map's cells
        ("--normals", "-1", "--normals takes a number above 0"),
        ("--normals", "nan", "--normals takes a number above 0"),
        ("--normals", "inf", "--normals takes a number above 0"),
        ("--probe-strongest", "0", "--probe-strongest takes at least 1 cell"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    option: str, value: str, words: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        read_options(None, ["--data", "data", "--run", "run", option, value])

    assert words in capsys.readouterr().err
