"""Other architectures by name: each builds, learns a step, and comes back from its file as it was."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from models.preprocess import Preprocessing
from tests.training_data import write_data
from training.data.chips import ImageCache
from training.data.dataset import load
from training.errors import CannotTrain
from training.experiments import architectures
from training.experiments.architectures import Config, Places, batches, judge, train_step
from training.experiments.torchvision_networks import (
    Architecture,
    Task,
    build,
    load_backbone,
    load_model,
    names,
    save_model,
)
from training.hardware import Hardware

CPU = Hardware(torch.device("cpu"), torch.float32)
SIDE = 64
# One of each family, the smallest that there is.
KINDS = [
    ("resnet18", "classify"),
    ("densenet121", "classify"),
    ("efficientnet_b0", "classify"),
    ("mobilenet_v3_small", "classify"),
    pytest.param("vit_b_32", "classify", marks=pytest.mark.slow),
    pytest.param("ssd300_vgg16", "detect", marks=pytest.mark.slow),
    ("ssdlite320_mobilenet_v3_large", "detect"),
    ("retinanet_resnet50_fpn", "detect"),
    ("fcos_resnet50_fpn", "detect"),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", "detect"),
    ("fasterrcnn_resnet50_fpn", "detect"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("architectures") / "data"
    write_data(folder, train=6, valid=4)
    return folder


@pytest.fixture(scope="module")
def cache(data: Path) -> ImageCache:
    return ImageCache(load(data, "train"), Preprocessing(SIDE))


@pytest.mark.parametrize(("name", "task"), KINDS)
def test_it_builds_learns_a_step_and_comes_back_from_its_file_as_it_was(
    name: str, task: Task, cache: ImageCache, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    architecture = Architecture(name, task, SIDE)
    model = build(architecture).train()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)

    loss = train_step(model, architecture, optimizer, next(batches(cache, SIDE, Config(batch=2, fractured=1.0))), CPU)
    save_model(model, architecture, tmp_path)
    restored, described = load_model(tmp_path)

    assert np.isfinite(loss)
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert described == architecture
    assert_same_answer(model.eval(), restored)


@torch.no_grad()
def assert_same_answer(model: torch.nn.Module, restored: torch.nn.Module) -> None:
    image = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    one, other = model(image), restored(image)
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other)
        assert one.shape == (1,)
    else:
        torch.testing.assert_close(one[0]["boxes"], other[0]["boxes"])
        torch.testing.assert_close(one[0]["scores"], other[0]["scores"])


def test_a_whole_run_leaves_a_model_and_its_figures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    architecture = Architecture("fasterrcnn_mobilenet_v3_large_320_fpn", "detect", SIDE)

    record = architectures.run(architecture, Config(steps=2, batch=2, evaluate_every=2), Places(data, tmp_path))

    assert (record.title, record.history[0]["step"]) == (f"{architecture.name} of torchvision", 2)
    assert torch.backends.cudnn.deterministic
    assert 0 <= record.metrics["map50"] <= 1
    assert load_model(tmp_path)[1] == architecture


def test_the_same_seed_gives_the_same_numbers(data: Path, tmp_path: Path) -> None:
    architecture, config = Architecture("mobilenet_v3_small", "classify", SIDE), Config(steps=2, batch=4)

    first, second = (
        architectures.run(architecture, config, Places(data, tmp_path / name)).history[-1] for name in "ab"
    )

    assert (first["loss"], first["auc"]) == (second["loss"], second["auc"])


def test_a_bright_square_is_learnt(data: Path) -> None:
    torch.manual_seed(1)
    architecture, config = Architecture("resnet18", "classify", SIDE), Config(steps=25, batch=8)
    model = build(architecture).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    for batch in batches(ImageCache(load(data, "train"), Preprocessing(SIDE)), SIDE, config):
        train_step(model, architecture, optimizer, batch, CPU)

    assert judge(model, architecture, load(data, "train"), CPU)["auc"] > 0.85


@pytest.mark.parametrize(("name", "task"), [("resnet18", "classify"), ("fasterrcnn_resnet50_fpn", "detect")])
def test_a_backbone_takes_over_what_fits_and_leaves_the_rest(name: str, task: Task, tmp_path: Path) -> None:
    imagenet = resnet18().state_dict() | {"conv1.weight": torch.full((64, 3, 7, 7), 0.25)}
    layers = [key for key in imagenet if not key.startswith("fc.")]
    save_file(imagenet, tmp_path / "w.safetensors")
    model = build(Architecture(name, task, SIDE))

    taken = load_backbone(model, tmp_path / "w.safetensors")

    first = model.state_dict()["network.conv1.weight" if task == "classify" else "network.backbone.body.conv1.weight"]
    assert torch.equal(first, torch.full((64, 3, 7, 7), 0.25))
    assert taken == len(layers) if task == "classify" else 0 < taken < len(layers)


def test_weights_that_fit_nowhere_are_refused(tmp_path: Path) -> None:
    save_file({"other": torch.ones(3)}, tmp_path / "w.safetensors")
    with pytest.raises(CannotTrain, match=r"no tensor of w\.safetensors"):
        build(Architecture("resnet18", "classify", SIDE), tmp_path / "w.safetensors")


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CannotTrain, match=r"no network to detect; known: .*fcos_resnet50_fpn"):
        build(Architecture("resnet50", "detect"))


def test_a_side_that_is_not_so_many_patches_is_refused() -> None:
    with pytest.raises(CannotTrain, match="vit_h_14 cannot be built for a side of 512 pixels"):
        build(Architecture("vit_h_14", "classify", 512))


def test_the_list_has_every_family(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["architectures", "list"])
    architectures.main()
    printed = capsys.readouterr().out
    assert {"resnet50", "densenet121", "efficientnet_b6", "vit_b_16", "retinanet_resnet50_fpn"} <= set(
        printed.replace(":", ",").replace("\n", ",").replace(" ", "").split(",")
    )
    assert names("classify")[0] in printed
