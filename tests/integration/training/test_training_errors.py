"""What the trainings say of ordinary mistakes: one line, status 1, no traceback."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.trunk import Trunk
from tests.training_data import write_data, write_mobilenet, write_vgg
from training.classifier import train as train_classifier
from training.data.chips import Chip
from training.detector import train as train_detector
from training.experiments import architectures
from training.hardware import Hardware

CPU = Hardware(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("errors")
    write_data(folder / "data", train=4, valid=2)
    write_mobilenet(folder / "w.mobilenet")
    write_vgg(folder / "w.vgg")
    (folder / "w.text").write_text("no weights")
    return folder


def said(program: object, words: list[str | Path], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        program.main()
    return str(ended.value)


def words_for(program: object, data: Path, run: Path) -> list[str | Path]:
    first = (
        ["train", "--name", "resnet18", "--task", "classify", "--longest-side", "64"]
        if program is architectures
        else []
    )
    return [*first, "--data", data, "--run", run]


@pytest.mark.parametrize("program", [train_detector, train_classifier, architectures])
@pytest.mark.parametrize("weights", ["w.none", "w.text"])
def test_weights_that_are_missing_or_none(program, weights, folder, tmp_path, monkeypatch) -> None:
    words = [*words_for(program, folder / "data", tmp_path), "--weights", folder / weights]

    assert f"{weights} does not hold" in said(program, words, monkeypatch)


@pytest.mark.parametrize(("program", "weights"), [(train_detector, "w.vgg"), (train_classifier, "w.mobilenet")])
def test_weights_of_another_network(program, weights, folder, tmp_path, monkeypatch) -> None:
    words = [*words_for(program, folder / "data", tmp_path), "--weights", folder / weights]

    assert f"{weights} does not hold" in said(program, words, monkeypatch)


@pytest.mark.parametrize("program", [train_detector, train_classifier])
def test_a_start_that_is_no_run(program, folder, tmp_path, monkeypatch) -> None:
    words = [*words_for(program, folder / "data", tmp_path), "--start", folder / "data"]

    assert "to start from" in said(program, words, monkeypatch)


@pytest.mark.parametrize("program", [train_detector, train_classifier, architectures])
def test_a_device_that_is_not_there(program, folder, tmp_path, monkeypatch) -> None:
    words = [*words_for(program, folder / "data", tmp_path), "--device", "cuda:99"]

    assert "there is no device cuda:99" in said(program, words, monkeypatch)


def test_a_collection_without_labels(folder, tmp_path, monkeypatch) -> None:
    words = [*words_for(train_classifier, folder / "nowhere", tmp_path), "--weights", folder / "w.vgg"]

    assert "nowhere" in said(train_classifier, words, monkeypatch)


@pytest.mark.parametrize("program", [train_detector, architectures])
def test_a_collection_without_normal_images(program, folder, tmp_path, monkeypatch) -> None:
    write_data(tmp_path / "data", train=4, valid=2)
    with (tmp_path / "data" / "labels.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (tmp_path / "data" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in rows if row[2] == "1")])
    weights = [] if program is architectures else ["--weights", folder / "w.mobilenet"]

    words = [*words_for(program, tmp_path / "data", tmp_path / "run"), *weights]

    assert "there are 2 with boxes and 0 normal" in said(program, words, monkeypatch)


class Diverged(nn.Module):
    """Learns nothing but that its loss is no number."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.weight = nn.Parameter(torch.tensor(float("nan")))

    def forward(self, images: torch.Tensor, targets: object) -> tuple[list[object], dict[str, torch.Tensor]]:
        return [], {"loss": self.weight * images.mean()}


def test_a_detector_s_losses_that_are_no_numbers_stop_the_run() -> None:
    detector = Diverged()
    optimizer = torch.optim.SGD(detector.parameters(), 0.1)
    chip = Chip(np.ones((64, 64), np.float32), np.empty((0, 4), np.float32))

    with pytest.raises(FloatingPointError, match="try lower rates"):
        train_detector.train_step(detector, optimizer, [chip], CPU)


def test_a_stage_alone_needs_a_detector_below_it(folder, tmp_path, monkeypatch, capsys) -> None:
    words = [*words_for(train_detector, folder / "data", tmp_path), "--weights", folder / "w.mobilenet"]

    assert said(train_detector, [*words, "--stages", "2", "--last-stage-only"], monkeypatch) == "2"
    assert "--last-stage-only needs --start" in capsys.readouterr().err
