"""Other architectures by name: each builds, learns a step, and comes back from its file as it was."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

from tests.training_data import write_data
from training.detector.options import DetectorConfig
from training.errors import CannotTrain
from training.experiments import architectures
from training.experiments.architectures import DetectionTraining, build, training_of
from training.loop import Places

SIDE = 64
TINY = DetectorConfig(steps=2, batch=2, warmup=1, evaluate_every=2, longest_side=SIDE)
# One of each family, the smallest that there is.
KINDS = [
    ("resnet18", "classify"),
    ("densenet121", "classify"),
    ("efficientnet_b0", "classify"),
    ("vit_tiny_patch16_224", "classify"),
    pytest.param("ssd300_vgg16", "detect", marks=pytest.mark.slow),
    ("ssdlite320_mobilenet_v3_large", "detect"),
    ("retinanet_resnet50_fpn", "detect"),
    ("fcos_resnet50_fpn", "detect"),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", "detect"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("architectures") / "data"
    write_data(folder, train=6, valid=4)
    return folder


def begun(name: str, task: str, data: Path, run: Path, **options: object) -> DetectionTraining:
    return training_of(name, task, Places(data, run, device="cpu"), DetectorConfig(**{**vars(TINY), **options}))


@pytest.mark.parametrize(("name", "task"), KINDS)
def test_it_builds_learns_a_step_and_comes_back_from_its_file_as_it_was(
    name: str, task: str, data: Path, tmp_path: Path
) -> None:
    training = begun(name, task, data, tmp_path)
    before = [parameter.detach().clone() for parameter in training.network.parameters()]

    loss = training.learn(next(training.batches()))
    training.keep(training.network)
    restored = build(name, task, SIDE)
    restored.load_state_dict(load_file(tmp_path / "model.safetensors"))

    assert np.isfinite(loss)
    assert any(not torch.equal(old, new) for old, new in zip(before, training.network.parameters(), strict=True))
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        one, other = (model.eval().network(image, [(SIDE, SIDE)])[0][0] for model in (training.network, restored))
    torch.testing.assert_close(one["boxes"], other["boxes"])
    torch.testing.assert_close(one["scores"], other["scores"])


def test_a_whole_run_leaves_a_model_and_its_figures_and_goes_on_as_any_other(data: Path, tmp_path: Path) -> None:
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    straight, first = begun(name, "detect", data, tmp_path / "a"), begun(name, "detect", data, tmp_path / "b")
    straight.run()
    first.learn(next(first.batches()))
    first.save()
    again = begun(name, "detect", data, tmp_path / "b")
    again.run()

    assert 0 <= straight.record.metrics["map50"] <= 1
    assert 0 <= straight.record.metrics["auc"] <= 1
    assert (tmp_path / "a" / "model.safetensors").exists()
    both = (straight.averaged.module.state_dict(), again.averaged.module.state_dict())
    assert all(torch.equal(tensor, both[1][key]) for key, tensor in both[0].items())


def test_a_bright_square_is_learnt(data: Path, tmp_path: Path) -> None:
    training = begun("resnet18", "classify", data, tmp_path, steps=25, batch=8, rate=1e-3, average=0.5)

    for batch in training.batches():
        training.learn(batch)

    training.blocks = {"train": [*training.images.fractured, *training.images.normal]}
    assert training.measure(training.averaged.module)["auc"] > 0.85


@pytest.mark.parametrize(
    ("name", "task", "body"), [("resnet18", "classify", ""), ("fasterrcnn_resnet50_fpn", "detect", "backbone.body.")]
)
def test_a_backbone_takes_over_what_fits_and_leaves_the_rest(name: str, task: str, body: str, tmp_path: Path) -> None:
    save_file(resnet18().state_dict() | {"conv1.weight": torch.full((64, 3, 7, 7), 0.25)}, tmp_path / "w.safetensors")

    model = build(name, task, SIDE, tmp_path / "w.safetensors")

    first = model.state_dict()[f"network.network.{body}conv1.weight"]
    assert torch.equal(first, torch.full((64, 3, 7, 7), 0.25))


def test_weights_that_fit_nowhere_are_refused(tmp_path: Path) -> None:
    save_file({"other": torch.ones(3)}, tmp_path / "w.safetensors")
    with pytest.raises(CannotTrain, match=r"no tensor of w\.safetensors"):
        build("resnet18", "classify", SIDE, tmp_path / "w.safetensors")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(CannotTrain, match=r"no network to detect: `list` has those that are"):
        build("resnet50", "detect", SIDE)


@pytest.mark.parametrize("options", [{"stages": 2}, {"backbone": "vgg16"}])
def test_options_of_bonewatch_s_own_detector_are_refused(
    options: dict[str, object], data: Path, tmp_path: Path
) -> None:
    with pytest.raises(CannotTrain, match="for bonewatch's own detector"):
        begun("resnet18", "classify", data, tmp_path, **options)


def test_a_training_without_a_name_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["architectures", "train", "--task", "detect"])
    with pytest.raises(SystemExit):
        architectures.main()
    assert "train needs --name and --task" in capsys.readouterr().err


def test_the_list_has_every_family(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["architectures", "list"])
    architectures.main()
    printed = capsys.readouterr().out.replace(":", ",").replace("\n", ",").replace(" ", "").split(",")
    assert {"resnet50", "densenet121", "efficientnet_b6", "vit_base_patch16_224", "retinanet_resnet50_fpn"} <= set(
        printed
    )
