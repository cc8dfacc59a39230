"""`analyze` as a command, with a model that says what it is told: what is printed when, and how a run goes on."""

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from models.types import Decision, ImageAnalysis
from worker.cli import analyze as command
from worker.cli.root import app

VERSION = "2026-01-01-fake+00000000"


class FakeModel:
    """Calls every picture absent, and is interrupted by the user at the one whose number it is told."""

    name, version, parameters = "fake", VERSION, ()

    def __init__(self) -> None:
        self.asked = 0
        self.interrupted_at: int | None = None

    def analyze(self, pixels: np.ndarray, minimum_score: float | None = None) -> ImageAnalysis:
        self.asked += 1
        if self.asked == self.interrupted_at:
            raise KeyboardInterrupt
        return ImageAnalysis(0.125, (), Decision.ABSENT, 0.1)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr(command._Model, "_analyzer", fake)
    monkeypatch.setattr(command._Model, "version", VERSION)
    return fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(4):
        pixels = np.linspace(0, 255, 1200, dtype=np.uint8).reshape(30, 40)
        Image.fromarray(np.roll(pixels, number)).save(tmp_path / "in" / f"{number}.png")
    return tmp_path / "in"


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["analyze", *map(str, words)])


def lines(text: str) -> Iterator[Any]:
    return map(json.loads, text.splitlines())


@pytest.mark.usefixtures("model")
def test_jsonl_is_one_object_a_line(folder: Path) -> None:
    result = run(folder, "--format", "jsonl")
    assert [each["outcome"] for each in lines(result.stdout)] == ["absent"] * 4
    assert result.exit_code == 0


@pytest.mark.parametrize("output", ["table", "json", "jsonl"])
def test_an_interrupted_run_has_printed_what_it_has(output: str, folder: Path, model: FakeModel) -> None:
    model.interrupted_at = 3
    result = run(folder, "--format", output)
    assert result.exit_code == 130
    if output == "json":
        assert len(json.loads(result.stdout)) == 2
    else:
        assert result.stdout.count("absent") == 2


def test_an_interrupted_run_goes_on_where_it_was(folder: Path, model: FakeModel, tmp_path: Path) -> None:
    model.interrupted_at = 3
    run(folder, "--out", tmp_path / "out")
    result = run(folder, "--out", tmp_path / "out", "--resume", "--json")
    assert model.asked == 3 + 2, "two answers were kept, two were missing"
    assert [Path(each["path"]).name for each in json.loads(result.stdout)] == ["0.png", "1.png", "2.png", "3.png"]
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 4
    assert sorted(each.name for each in (tmp_path / "out").glob("*.png")) == ["0.png", "1.png", "2.png", "3.png"]


def test_what_changed_since_is_analysed_again(folder: Path, model: FakeModel, tmp_path: Path) -> None:
    run(folder, "--out", tmp_path / "out")
    os.utime(folder / "1.png", ns=(1, 1))
    run(folder, "--out", tmp_path / "out", "--resume")
    assert model.asked == 4 + 1


@pytest.mark.parametrize("different", ["model", "score"])
def test_answers_of_another_kind_are_not_kept(
    different: str, folder: Path, model: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, "--out", tmp_path / "out")
    if different == "model":
        monkeypatch.setattr(command._Model, "version", "2026-02-02-fake+11111111")
    options = ["--min-score", 0.1] if different == "score" else []
    run(folder, "--out", tmp_path / "out", "--resume", *options)
    assert model.asked == 8


def test_half_a_line_at_the_end_is_no_answer(folder: Path, model: FakeModel, tmp_path: Path) -> None:
    run(folder, "--out", tmp_path / "out")
    journal = tmp_path / "out" / "results.jsonl"
    journal.write_text(journal.read_text()[:-20])
    assert run(folder, "--out", tmp_path / "out", "--resume").exit_code == 0
    assert model.asked == 5


@pytest.mark.usefixtures("model")
def test_what_failed_is_tried_again(folder: Path, tmp_path: Path) -> None:
    (folder / "note.dcm").write_text("a note")
    assert run(folder, "--out", tmp_path / "out").exit_code == 1
    result = run(folder, "--out", tmp_path / "out", "--resume", "--json")
    assert json.loads(result.stdout)[-1]["outcome"] == "failed"
    assert result.exit_code == 1


@pytest.mark.usefixtures("model")
def test_resume_needs_the_folder_of_the_run(folder: Path) -> None:
    assert run(folder, "--resume").exit_code == 2


@pytest.mark.usefixtures("model")
def test_a_zip_file_gets_an_answer_for_each_image_in_it(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"CD/{path.name}")
    result = run(tmp_path / "study.zip", "--json", "--out", tmp_path / "out")
    assert next(each["path"] for each in json.loads(result.stdout)) == str(tmp_path / "study.zip" / "CD" / "0.png")
    assert (tmp_path / "out" / "study.zip" / "CD" / "3.png").is_file()
