"""A site's way: check and run, with DICOM files and pictures, through the commands that a person types."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import Result

from models.bundle import load_bundle
from tests.builders import build_dx, write_part10
from tests.site import PATIENTS, Site, as_dicom, as_picture, run, write_lively_bundle, write_site
from training.detector import train as train_detector
from training.site import training as site_training
from training.site.classifier import Features
from training.site.detector import config_for
from worker.settings.current_bundle import current_bundle


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BONEWATCH_BUNDLE", raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Result]:
    """A site of DICOM files after one run."""
    site = Site(tmp_path_factory.mktemp("dicom"))
    write_site(site, as_dicom)
    write_lively_bundle(site.bundle)
    options = ["--out", site.out, "--bundle", site.bundle, "--epochs", 12, "--steps", 4, "--device", "cpu"]
    return site, run(*site.arguments("run", *options))


@pytest.fixture
def pictures(tmp_path: Path) -> Site:
    site = Site(tmp_path / "pictures")
    write_site(site, as_picture)
    return site


# ---- run


def test_a_run_makes_a_bundle_that_loads_and_says_what_it_is_made_of(trained: tuple[Site, Result]) -> None:
    site, result = trained
    assert result.exit_code == 0, result.output

    old, new = load_bundle(site.bundle), load_bundle(site.out / "bundle")

    assert new.manifest.name == "tiny-site"
    assert old.version in new.manifest.training_data
    assert new.manifest.metrics["whole_files"]["images"] == 6
    assert new.manifest.metrics["chosen_on"] == "the site's tune part"
    assert new.version in new.card
    assert new.version in result.output


def test_the_comparison_has_both_bundles_on_the_same_images(trained: tuple[Site, Result]) -> None:
    site, result = trained
    comparison = json.loads((site.out / "comparison.json").read_text())
    held_back = comparison["held_back"]

    assert held_back["old"]["images"] == held_back["new"]["images"] == comparison["counts"]["held_back"]["images"]
    low, high = held_back["auc_difference_95"]
    assert low <= held_back["auc_difference"] <= high
    assert held_back["auc_difference"] == pytest.approx(held_back["new"]["auc"] - held_back["old"]["auc"])
    assert held_back["verdict"] in result.output
    assert held_back["few_images"] is True


def test_a_network_changes_only_where_it_got_better_on_tune(trained: tuple[Site, Result]) -> None:
    site, _ = trained
    tuned = json.loads((site.out / "comparison.json").read_text())["tuned"]

    for kind, figures in (("classifier", tuned["classifier_auc"]), ("detector", tuned["detector_map50"])):
        old, new = (load_file(folder / f"{kind}.safetensors") for folder in (site.bundle, site.out / "bundle"))
        assert any(not old[name].equal(new[name]) for name in old) is figures["changed"]
        assert (figures["after"] > figures["before"]) is figures["changed"]
    trunks = [load_file(folder / "trunk.safetensors") for folder in (site.bundle, site.out / "bundle")]
    assert all(tensor.equal(trunks[1][name]) for name, tensor in trunks[0].items())


def test_no_patient_is_in_two_parts(trained: tuple[Site, Result]) -> None:
    with (trained[0].out / "split.csv").open(newline="") as file:
        parts = {row["file_name"]: row["part"] for row in csv.DictReader(file)}
    assert len(parts) == PATIENTS
    assert set(parts.values()) == {"train", "tune", "held_back"}


def test_no_patient_identifier_and_no_decoded_image_is_left_behind(trained: tuple[Site, Result]) -> None:
    site, result = trained
    left = [path for path in site.out.rglob("*") if path.is_file()]
    assert not [path for path in left if path.suffix in {".png", ".npy"}]
    assert not [path for path in left if b"MRN0" in path.read_bytes()]
    assert "MRN0" not in result.output


def test_a_run_promotes_nothing(trained: tuple[Site, Result], home: Path) -> None:
    assert f"train promote {trained[0].out / 'bundle'}" in trained[1].output.replace("\n", "")
    assert current_bundle(home) is None


def test_a_run_into_a_used_folder_is_refused(trained: tuple[Site, Result]) -> None:
    site, _ = trained
    result = run(*site.arguments("run", "--out", site.out))
    assert result.exit_code == 2
    assert "is not empty" in result.output


def test_decoded_images_among_the_images_are_refused(pictures: Site, tmp_path: Path) -> None:
    result = run(*pictures.arguments("run", "--out", tmp_path / "o", "--work", pictures.images / "work"))
    assert result.exit_code == 2
    assert "lies among the images" in result.output


# ---- a run that was interrupted


@pytest.mark.parametrize("place", ["features", "detector"])
def test_an_interrupted_run_goes_on_and_gives_what_an_uninterrupted_one_gives(
    place: str, pictures: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lively_bundle(pictures.bundle)
    options = ["--bundle", pictures.bundle, "--epochs", 2, "--steps", 3, "--device", "cpu"]
    monkeypatch.setattr(site_training, "config_for", lambda *words: replace(config_for(*words), checkpoint_minutes=0.0))
    calls = {"features": (Features, "_features"), "detector": (train_detector, "train_step")}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with counted(*calls[place]) as uninterrupted:
        assert run(*pictures.arguments("run", "--out", whole, *options)).exit_code == 0
    with counted(*calls[place], interrupt_at=3) as first:
        assert run(*pictures.arguments("run", "--out", broken, *options)).exit_code == 130
    with counted(*calls[place]) as second:
        assert run(*pictures.arguments("run", "--out", broken, *options)).exit_code == 0

    # What was under way at the interruption is done again, and with it the other look at the same image
    assert uninterrupted.times <= first.times + second.times <= uninterrupted.times + 2
    assert second.times < uninterrupted.times
    for kind in ("classifier", "detector"):
        one, other = (load_file(folder / "bundle" / f"{kind}.safetensors") for folder in (whole, broken))
        assert all(tensor.equal(other[name]) for name, tensor in one.items())
    assert not (broken / "unfinished").exists()


def test_an_interrupted_run_of_something_else_is_not_gone_on_with(pictures: Site, tmp_path: Path) -> None:
    write_lively_bundle(pictures.bundle)
    options = ["--out", tmp_path / "out", "--bundle", pictures.bundle, "--epochs", 1, "--device", "cpu"]
    with counted(train_detector, "train_step", interrupt_at=1):
        run(*pictures.arguments("run", *options, "--steps", 3))
    result = run(*pictures.arguments("run", *options, "--steps", 4))
    assert result.exit_code == 2
    assert "interrupted run of other images" in result.output


@dataclass
class Counted:
    times: int = 0


@contextmanager
def counted(owner: Any, name: str, interrupt_at: int | None = None) -> Iterator[Counted]:
    """Count the calls of a function; one of them is broken off as Ctrl-C does."""
    count, function = Counted(), getattr(owner, name)

    def call(*arguments: Any) -> Any:
        count.times += 1
        if count.times == interrupt_at:
            raise KeyboardInterrupt
        return function(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, call)
        yield count


# ---- check


def test_good_data_are_counted_by_part(pictures: Site) -> None:
    result = run(*pictures.arguments("check", "--json"))

    said = json.loads(result.stdout)
    assert result.exit_code == 0
    assert said["counts"]["all"] == {"images": 30, "fractured": 15, "boxes": 15, "patients": 30}
    assert said["problems"] == []


def test_unreadable_files_are_named_until_they_may_be_skipped(pictures: Site) -> None:
    broken = pictures.images / "03.png"
    broken.write_bytes(broken.read_bytes()[:500])

    strict, lenient = (
        run(*pictures.arguments("check", *more)) for more in ((), ("--skip-unreadable", "--skip-unmatched"))
    )

    assert strict.exit_code == 1
    assert "1 unreadable files" in strict.output
    assert "03.png: the picture is damaged" in strict.output
    assert lenient.exit_code == 0
    assert "03.png" in lenient.output


def test_a_dicom_file_that_is_out_of_scope_or_has_frames_teaches_nothing(pictures: Site) -> None:
    write_part10(
        build_dx(instance="x", BodyPartExamined="SKULL", AnatomicRegionSequence=None), pictures.images / "skull.dcm"
    )
    frames = np.random.default_rng(0).integers(0, 4095, (2, 64, 64), dtype=np.uint16)
    write_part10(build_dx(instance="y", pixels=frames), pictures.images / "frames.dcm")

    result = run(*pictures.arguments("check"))

    assert result.exit_code == 1
    assert "frames.dcm: 2 frames; a label is about one image" in result.output
    assert "images left out, bonewatch would not analyse them" in result.output


def test_one_class_only_is_said_in_words(pictures: Site) -> None:
    pictures.labels.write_text(pictures.labels.read_text().replace(",no,", ",yes,"))
    result = run(*pictures.arguments("check"))
    assert result.exit_code == 1
    assert "one class only: all 30 images are fractured" in result.output


def test_too_few_patients_are_said_in_words(pictures: Site) -> None:
    pictures.labels.write_text("\n".join(pictures.labels.read_text().splitlines()[:21]))
    result = run(*pictures.arguments("check", "--skip-unmatched"))
    assert result.exit_code == 1
    assert "too few patients with a fracture: 10" in result.output


def test_a_table_without_its_column_is_wrong_use(pictures: Site) -> None:
    pictures.labels.write_text("file_name,label\n00.png,1\n")
    result = run(*pictures.arguments("check"))
    assert result.exit_code == 2
    assert "has no column fractured" in result.output


def test_nothing_to_learn_from_is_wrong_use(pictures: Site) -> None:
    assert run("train", "check", pictures.images).exit_code == 2
