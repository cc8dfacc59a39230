"""The detector's training in miniature: synthetic images with a bright square for a fracture, the smallest network."""

import hashlib
import json
import os
import shutil
import signal
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training_data import write_data, write_efficientnet, write_mobilenet, write_vgg
from training.bundle.parts import averaged, read_part, write_part
from training.data.augment import Geometry
from training.data.chips import Chip, Cutter, ImageCache
from training.data.dataset import load
from training.detector.options import BATCH, DetectorConfig, read_options
from training.detector.start import build
from training.detector.train import cutter_of, draw, images_of, training_of
from training.errors import CannotTrain
from training.hardware import Hardware
from training.loop import Places, Training

TINY = DetectorConfig(longest_side=128, chip=64, steps=4, batch=2, warmup=2, evaluate_every=2)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp("detector")
    write_data(folder / "data", train=64, valid=6)
    write_mobilenet(folder / "mobilenet.safetensors")
    return Places(folder / "data", folder / "run", folder / "mobilenet.safetensors")


@pytest.fixture(scope="module")
def straight(places: Places) -> Path:
    training_of(places, TINY).run()
    return places.run


@pytest.fixture(autouse=True)
def no_more_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the curves of `straight` alone, whose run is made before: they take as long as the network."""
    monkeypatch.setattr("training.loop.write_curves", lambda *_: None)


def image_cache(places: Places) -> ImageCache:
    return ImageCache(load(places.data, "train"), TINY.preprocessing)


def test_a_run_leaves_its_record_and_a_network_that_can_be_read_again(straight: Path, places: Places) -> None:
    record = json.loads((straight / "run.json").read_text())

    assert [entry["step"] for entry in record["history"]] == [2, 4]
    assert record["history"][0]["loss_objectness"] > 0
    assert record["config"]["seed"] == TINY.seed
    assert set(record["data"]) == {"labels.csv", "boxes_train.json", "boxes_valid.json", "images"}
    weights = hashlib.sha256(places.weights.read_bytes()).hexdigest()
    assert record["started_from"] == {"weights": weights}
    assert record["metrics"]["map50"] == max(entry["map50"] for entry in record["history"])
    assert read_part(straight, "detector").design.architecture == "faster_rcnn_mobilenet_v2_fpn"


def test_an_epoch_of_64_images_lowers_the_loss_from_one_half_to_the_other(places: Places) -> None:
    epoch = replace(TINY, steps=8, batch=8, evaluate_every=4)
    there = replace(places, run=places.run.with_name("epoch"))

    training_of(there, epoch).run()

    first, second = json.loads((there.run / "run.json").read_text())["history"]
    assert sum(second[name] for name in second if name.startswith("loss_")) < sum(
        first[name] for name in first if name.startswith("loss_")
    )


def test_the_batch_is_the_device_s_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--data", "data", "--run", "run"]
    monkeypatch.setattr("training.hardware.choose_device", lambda _: torch.device("cpu"))
    assert read_options(None, words)[1].batch == BATCH["cpu"]
    assert read_options(None, [*words, "--batch", "3"])[1].batch == 3


def test_it_learns_in_mixed_precision_too(places: Places) -> None:
    there = replace(places, run=places.run.with_name("bfloat16"))
    training = training_of(there, TINY, Hardware(torch.device("cpu"), torch.bfloat16))

    losses = [training.learn(chips) for chips in training.batches()]

    assert len(losses) == TINY.steps
    assert np.isfinite(losses).all()
    assert all(each.dtype == torch.float32 for each in training.network.parameters())


def test_the_same_seed_gives_the_same_weights_also_after_an_interruption(straight: Path, places: Places) -> None:
    again = replace(places, run=places.run.with_name("again"))
    training = training_of(again, TINY)
    for chips, _ in zip(training.batches(), range(2), strict=False):
        training.learn(chips)
    training.evaluate()
    training.save()

    training_of(again, TINY).run()

    first, second = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (straight, again.run))
    assert second["step"] == TINY.steps
    for name, tensor in first["detector"].items():
        assert torch.equal(tensor, second["detector"][name]), name


def test_a_run_that_was_interrupted_after_its_best_evaluation_keeps_that_one_s_figures(places: Places) -> None:
    there = replace(places, run=places.run.with_name("past_the_best"))
    training = training_of(there, TINY)
    for chips, _ in zip(training.batches(), range(2), strict=False):
        training.learn(chips)
    training.evaluate()
    training.record.history[0]["map50"] = 1.0
    training.save()

    training_of(there, TINY).run()

    record = json.loads((there.run / "run.json").read_text())
    assert [entry["step"] for entry in record["history"]] == [2, 4]
    assert record["metrics"]["step"] == 2


def test_the_first_layers_stay_as_imagenet_left_them_and_the_others_learn(straight: Path, places: Places) -> None:
    before, after = load_file(places.weights), load_file(straight / "trunk.safetensors")

    assert torch.equal(before["features.1.conv.0.0.weight"].float(), after["features.1.conv.0.0.weight"])
    assert not torch.equal(before["features.5.conv.0.0.weight"].float(), after["features.5.conv.0.0.weight"])


def test_a_few_steps_on_the_same_chips_lower_the_loss(places: Places) -> None:
    config = replace(TINY, steps=20, rate=2e-3, backbone_rate=1e-3)
    training = training_of(replace(places, run=places.run.with_name("overfit")), config)
    chips = draw(image_cache(places), Cutter(config.chip, Geometry()), config, 0)

    losses = [training.learn(chips) for _ in range(config.steps)]

    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_chips_without_any_fracture_teach_too(places: Places) -> None:
    training = training_of(replace(places, run=places.run.with_name("empty")), TINY)

    empty = Chip(np.random.default_rng(0).random((64, 64), np.float32), np.empty((0, 4), np.float32))

    loss = training.learn([empty, empty])

    assert np.isfinite(loss)
    assert loss > 0


def test_a_run_goes_on_from_another_one_s_network(straight: Path, places: Places) -> None:
    training = training_of(replace(places, run=places.run.with_name("next"), start=(straight,)), TINY)

    for name, tensor in read_part(straight, "detector").network.items():
        assert torch.equal(tensor, training.network.network.state_dict()[name]), name


def test_a_start_needs_no_other_weights_and_keeps_what_it_is_read_with(
    straight: Path, places: Places, tmp_path: Path
) -> None:
    earlier = read_part(straight, "detector")
    there = replace(places, run=tmp_path, weights=None, start=(straight.with_name("voting"),))
    shutil.copytree(straight, there.start[0])
    content = json.loads((straight / "part.json").read_text()) | {"options": {"voting_iou": 0.5}}
    (there.start[0] / "part.json").write_text(json.dumps(content))

    training = training_of(there, replace(TINY, stages=2))

    assert training.design == replace(earlier.design, options={"voting_iou": 0.5, "stages": 2})
    assert [heads.voting_iou for heads in training.network.network.stages] == [0.5, 0.5]
    assert training.config.backbone == "mobilenet_v2"


def test_a_start_on_another_backbone_or_with_more_stages_is_refused(straight: Path, places: Places) -> None:
    there = replace(places, start=(straight,))

    with pytest.raises(CannotTrain, match="stands on mobilenet_v2, not on vgg16"):
        build(there, replace(TINY, backbone="vgg16"))
    two, _ = build(there, replace(TINY, stages=2))
    design = replace(read_part(straight, "detector").design, options={"stages": 2})
    write_part("detector", design, two.trunk, two.network, straight.with_name("two"))
    with pytest.raises(CannotTrain, match="--stages 2"):
        build(replace(places, start=(straight.with_name("two"),)), TINY)


def test_a_second_stage_is_learnt_on_the_mean_of_two_runs_and_nothing_else_changes(
    straight: Path, places: Places
) -> None:
    other = replace(places, run=places.run.with_name("other"), start=(straight,))
    training_of(other, replace(TINY, seed=TINY.seed + 1)).run()
    there = replace(places, run=places.run.with_name("stages"), start=(straight, other.run))

    training_of(there, replace(TINY, stages=2, last_stage_only=True, stretch=(1.0, 99.0))).run()

    part = read_part(there.run, "detector")
    mean = averaged([read_part(folder, "detector") for folder in there.start])
    assert part.design.options == {"stages": 2}
    assert part.design.preprocessing.stretch_percentiles == (1.0, 99.0)
    for before, after in ((mean.trunk, part.trunk), (mean.network, part.network)):
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    began = mean.network["roi_heads.box_head.fc7.weight"]
    assert not torch.equal(part.network["later_stages.0.box_head.fc7.weight"], began)
    history = json.loads((there.run / "run.json").read_text())["history"]
    assert {"loss_classifier_2", "loss_box_reg_2"} <= history[0].keys()
    assert "loss_classifier" not in history[0]


def test_vgg16_can_be_the_backbone(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_vgg(tmp_path / "vgg.safetensors")
    there = replace(places, weights=tmp_path / "vgg.safetensors", run=tmp_path / "run")

    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)

    training_of(there, replace(TINY, backbone="vgg16", steps=1)).run()

    assert torch.backends.cudnn.deterministic
    assert read_part(there.run, "detector").design.trunk == "vgg16"


def test_efficientnet_lite2_can_be_the_backbone_and_learns_at_sides_drawn_for_each_chip(
    places: Places, tmp_path: Path
) -> None:
    write_efficientnet(tmp_path / "lite2.safetensors")
    there = replace(places, weights=tmp_path / "lite2.safetensors", run=tmp_path / "run")
    config = replace(TINY, backbone="efficientnet_lite2", sides=(96, 192), schedule="constant", pasted=0.3, steps=2)

    training_of(there, config).run()

    part = read_part(there.run, "detector")
    assert (part.design.architecture, part.design.trunk) == (
        "faster_rcnn_efficientnet_lite2_fpn",
        "efficientnet_lite2",
    )
    assert part.design.preprocessing.longest_side == TINY.longest_side
    began = build(there, config)[0].network.state_dict()
    assert not torch.equal(began["deep.stride32.6.0.conv_pw.weight"], part.network["deep.stride32.6.0.conv_pw.weight"])
    again = replace(there, weights=None, start=(there.run,), run=tmp_path / "again")
    training_of(again, replace(config, backbone=None, steps=1)).run()
    assert read_part(again.run, "detector").design == part.design


def test_sides_are_drawn_for_each_chip_of_images_at_their_files_resolution(places: Places) -> None:
    config = replace(TINY, sides=(96, 192), negatives=0.0)
    images = images_of(load(places.data, "train"), config)

    chips = [chip for step in range(6) for chip in draw(images, cutter_of(config), config, step)]

    assert images.get(images.normal[0]).pixels.shape == (120, 100)
    widths = [x2 - x1 for chip in chips for x1, _, x2, _ in chip.boxes_xyxy.tolist()]
    assert {chip.pixels.shape for chip in chips} == {(64, 64)}
    assert max(widths) > 1.4 * min(widths)


def test_a_second_block_is_measured_beside_valid_and_both_choose_together(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune = [replace(item, split="tune") for item in load(places.data, "train")[:6]]
    monkeypatch.setattr("training.data.dataset.for_tuning", lambda _: tune)
    there = replace(places, run=tmp_path)

    training_of(there, TINY).run()

    record = json.loads((tmp_path / "run.json").read_text())
    for entry in record["history"]:
        assert entry["blocks"].keys() == {"valid", "tune"}
        assert entry["map50"] != entry["blocks"]["valid"]["map50"] or entry["map50"] == entry["blocks"]["tune"]["map50"]
        assert entry["free_response_iou30_or_centre"]["1.0"] >= entry["free_response"]["1.0"]
    assert record["metrics"]["map50"] == max(entry["map50"] for entry in record["history"])


def test_a_run_that_is_asked_to_stop_ends_its_step_and_goes_on_later(
    straight: Path, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = replace(places, run=tmp_path)
    learn = Training.learn

    def stopped_at_the_third(self: Training, chips: list[Chip]) -> float:
        loss = learn(self, chips)
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    monkeypatch.setattr(Training, "learn", stopped_at_the_third)
    training_of(there, TINY).run()
    stopped = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    monkeypatch.setattr(Training, "learn", learn)
    training_of(there, TINY).run()

    assert stopped["step"] == 3
    first, second = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (straight, tmp_path))
    assert second["step"] == TINY.steps
    assert all(torch.equal(tensor, second["detector"][name]) for name, tensor in first["detector"].items())


def test_checkpoints_come_by_the_clock_not_by_steps(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(Training, "save", lambda self: saved.append(self.step))
    last = replace(TINY, steps=2)
    each = replace(last, checkpoint_minutes=0.0)

    training_of(replace(places, run=tmp_path / "each"), each).run()
    training_of(replace(places, run=tmp_path / "last"), last).run()

    assert saved == [1, 2, 2]


def test_when_a_run_judges_and_saves_may_change_and_its_length_where_the_rates_are_constant() -> None:
    constant = replace(TINY, schedule="constant")
    earlier = asdict(constant)
    older = {name: value for name, value in asdict(TINY).items() if name not in {"sides", "schedule"}}

    assert replace(constant, evaluate_every=7, checkpoint_minutes=1.0, steps=9).goes_on_from(earlier)
    assert not replace(constant, rate=1e-4).goes_on_from(earlier)
    assert not replace(TINY, steps=9).goes_on_from(asdict(TINY))
    assert TINY.goes_on_from(older)
    assert not constant.goes_on_from(older)


def test_a_run_does_not_go_on_from_other_weights(straight: Path, places: Places, tmp_path: Path) -> None:
    here = replace(places, run=shutil.copytree(straight, tmp_path / "run"), weights=tmp_path / "other.safetensors")
    other = {name: tensor * 2 if "conv" in name else tensor for name, tensor in load_file(places.weights).items()}
    save_file(other, here.weights)

    with pytest.raises(CannotTrain, match="began with other weights"):
        training_of(here, TINY).run()


def test_a_run_does_not_go_on_under_another_configuration(straight: Path, places: Places) -> None:
    with pytest.raises(CannotTrain, match="another configuration"):
        training_of(replace(places, run=straight), replace(TINY, rate=1e-4))
