"""The bundle in models/weights: whole, described, attributed, and saying what was recorded of it."""

import json

import pytest
import torch

import models.analyzer
from models.analyzer import Analyzer
from models.bundle import SHIPPED, load_bundle, read_manifest
from models.images import read_image
from tests.product import ROOT
from training.bundle.models_report import BARS

MISSED = {"true boxes found at 0.5 false boxes an image"}
PICTURES = ROOT / "tests" / "data" / "fracatlas"
RECORDED = json.loads((PICTURES / "recorded.json").read_text())
# Every fourth by its probability: from the surest normal to a sure fracture, and what lies between.
SOME = sorted(RECORDED["images"], key=lambda name: RECORDED["images"][name]["probability"])[3::4]


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    """The model in float32, in which the records were made, whatever this processor prefers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.analyzer, "choose_dtype", lambda _device: torch.float32)
        return Analyzer(load_bundle(), device="cpu")


def test_the_records_are_of_the_shipped_version(analyzer: Analyzer) -> None:
    assert analyzer.version == RECORDED["version"]


@pytest.mark.parametrize("name", SOME)
def test_a_radiograph_gets_the_recorded_probability(analyzer: Analyzer, name: str) -> None:
    analysis = analyzer.analyze(read_image(PICTURES / name), minimum_score=0.0)

    # Room for another processor, not for another model.
    assert analysis.probability == pytest.approx(RECORDED["images"][name]["probability"], abs=0.02)
    assert analysis.boxes[0].score == pytest.approx(RECORDED["images"][name]["best_score"], abs=0.03)


def test_the_precision_of_this_processor_moves_probabilities_by_little() -> None:
    """In bfloat16 the largest difference over all 40 images was 0.045; in float32 there is none."""
    as_it_runs = Analyzer(load_bundle(), device="cpu")
    moved = [
        abs(as_it_runs.analyze(read_image(PICTURES / name)).probability - RECORDED["images"][name]["probability"])
        for name in SOME
    ]

    assert max(moved) < 0.08
    assert sum(moved) / len(moved) < 0.02


def test_the_recorded_answers_are_not_one_answer() -> None:
    probabilities = [entry["probability"] for entry in RECORDED["images"].values()]

    assert max(probabilities) - min(probabilities) > 0.3


def test_the_card_says_what_it_is_and_whose_work_is_in_it() -> None:
    card, version = (SHIPPED / "README.md").read_text(), read_manifest(SHIPPED).version

    for words in (
        version,
        "Not a medical device",
        "CC BY 4.0",
        "FracAtlas",
        "Simonyan",
        "It misses fractures",
        "another hospital",
    ):
        assert words in card


def test_the_floors_are_reached_but_for_those_that_are_known_to_be_missed() -> None:
    metrics = read_manifest(SHIPPED).metrics
    floors = [(bar.figure, bar.read(metrics), bar) for bar in BARS if bar.role == "floor"]

    missed = {figure for figure, reached, bar in floors if reached is None or not bar.met(reached)}
    # What is missed stands in docs/models.md; whoever reaches it takes its name out here.
    assert missed == MISSED
    assert metrics["whole_files"]["auc_95"][0] > 0.85


def test_the_files_stay_small_enough_to_ship() -> None:
    sizes = [path.stat().st_size for path in SHIPPED.glob("*.safetensors")]

    assert len(sizes) == 4
    assert max(sizes) <= 90_000_000
    assert sum(sizes) <= 140_000_000
