"""Each training in miniature: synthetic images with a bright square for a fracture, a sixteenth of VGG16's width."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from models.analyzer import Analyzer
from models.bundle import load_bundle
from models.classifier import PooledClassifier, PooledHead
from models.decision import Calibration, OperatingPoints
from models.preprocess import Preprocessing
from models.types import ScoredBox
from models.vgg import VGG16Block5, VGG16Trunk
from training import cache, evaluate, export_bundle, train_classifier, train_detector, train_pooled
from training.dataset import Radiograph, load
from training.runs import Places, available, rate_at, read_maps

TINY = Preprocessing(longest_side=128)
ROWS, COLUMNS, SIDE = 120, 100, 24
COLUMN_NAMES = ["file_name", "split", "fractured", "hand", "leg", "hip", "shoulder", "mixed", "truncated"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp("training")
    write_data(folder / "data")
    write_vgg(folder / "vgg.safetensors")
    cache.run(folder / "data", folder / "vgg.safetensors", folder / "cache", TINY)
    return Places(folder / "data", folder / "vgg.safetensors", folder / "cache", folder / "run")


def write_data(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = []
    for split, count in (("train", 24), ("valid", 16)):
        coco: dict[str, list] = {"images": [], "annotations": []}
        for number in range(count):
            name, fractured = f"{split}{number}.png", number % 2
            pixels = random.integers(0, 90, (ROWS, COLUMNS), dtype=np.uint8)
            if fractured:
                x, y = random.integers(8, COLUMNS - SIDE - 8), random.integers(8, ROWS - SIDE - 8)
                pixels[y : y + SIDE, x : x + SIDE] += 150
                coco["annotations"].append({"image_id": number, "bbox": [int(x), int(y), SIDE, SIDE]})
            Image.fromarray(pixels).save(folder / "images" / name)
            coco["images"].append({"id": number, "file_name": name})
            rows.append([name, split, fractured, 1, 0, 0, 0, 0, 0])
        (folder / f"boxes_{split}.json").write_text(json.dumps(coco))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMN_NAMES, *rows])


def write_vgg(path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = {**VGG16Trunk(0.0625).state_dict(), **VGG16Block5(0.0625).state_dict()}
    # Random layers shrink what passes them; doubled, a signal reaches the end.
    save_file({name: (2.2 * tensor).half() for name, tensor in layers.items()}, path)


def test_the_data_set_gives_labels_boxes_and_pixels(places: Places) -> None:
    radiographs = load(places.data, "train")

    assert len(radiographs) == 24
    fractured = [item for item in radiographs if item.fractured]
    x1, y1, x2, y2 = fractured[0].boxes_xyxy[0]
    pixels = fractured[0].pixels()
    assert pixels.shape == (ROWS, COLUMNS)
    assert pixels[int(y1) : int(y2), int(x1) : int(x2)].min() > 0.55
    assert not any(item.boxes_xyxy for item in radiographs if not item.fractured)


def test_every_fractured_image_is_cached_in_four_variants_and_every_other_in_one(places: Places) -> None:
    samples = available(places.data, places.cache, "train")

    assert sum(sample.radiograph.fractured for sample in samples) == 12 * 4
    assert sum(not sample.radiograph.fractured for sample in samples) == 12
    assert {sample.variant for sample in available(places.data, places.cache, "valid")} == {"plain"}


def test_a_full_cache_is_left_alone(places: Places) -> None:
    before = {path: path.stat().st_mtime_ns for path in places.cache.iterdir()}

    cache.run(places.data, places.weights, places.cache, TINY)

    assert {path: path.stat().st_mtime_ns for path in places.cache.iterdir()} == before


def test_a_cached_map_lies_under_its_boxes(places: Places) -> None:
    sample = next(s for s in available(places.data, places.cache, "train") if s.radiograph.fractured)
    item = read_maps(places.cache, sample)

    canvas, boxes = cache.render(sample, TINY)

    assert item.maps.shape[1:] == (canvas.shape[0] // 8, canvas.shape[1] // 8)
    np.testing.assert_allclose(item.boxes, boxes)
    x1, y1, x2, y2 = boxes[0].astype(int)
    assert canvas[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean() > 2 * canvas.mean()


def test_the_location_target_marks_cells_in_the_box_and_ignores_the_ring() -> None:
    target, weight = train_classifier.location_target(torch.tensor([[32.0, 16.0, 64.0, 48.0]]), 6, 6)

    assert target.nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert weight[1:3, 2:4].min() == 1
    assert weight[0, 2] == weight[1, 1] == weight[3, 3] == 0
    assert weight[5, 5] == 1


def test_a_box_smaller_than_a_cell_still_teaches_one_cell() -> None:
    target, _ = train_classifier.location_target(torch.tensor([[17.0, 33.0, 19.0, 35.0]]), 6, 6)

    assert target.nonzero().tolist() == [[2, 1]]


def test_the_rate_warms_up_and_comes_down() -> None:
    rates = [rate_at(step, 100, 10) for step in range(100)]

    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.06
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.slow
def test_both_trainings_learn_and_their_bundle_answers(places: Places, tmp_path: Path) -> None:
    classifier = Places(places.data, places.weights, places.cache, tmp_path / "classifier")
    detector = Places(places.data, places.weights, places.cache, tmp_path / "detector")

    train_classifier.run(classifier, train_classifier.Config(epochs=8, batch=8, rate=3e-3, warmup=5, average=0.9))
    train_detector.run(detector, train_detector.Config(steps=40, rate=1e-3, evaluate_every=20, checkpoint_every=20))

    history = json.loads((tmp_path / "classifier" / "run.json").read_text())["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    assert max(entry["auc"] for entry in history) > 0.9
    ingredients = export_bundle.Ingredients(
        places.weights,
        tmp_path / "classifier" / "classifier.safetensors",
        tmp_path / "detector" / "detector.safetensors",
        "miniature",
        "2026-01-01",
        "All of it was used.",
        TINY,
    )
    export_bundle.export(ingredients, places.data, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.version.startswith("2026-01-01-miniature+")
    assert bundle.version in bundle.card
    fractured = load(places.data, "valid")[1]
    assert fractured.fractured
    normal = load(places.data, "valid")[0]
    analyzer = Analyzer(bundle, device="cpu")
    assert analyzer.analyze(fractured.pixels()).probability > analyzer.analyze(normal.pixels()).probability
    losses = [entry["loss"] for entry in json.loads((tmp_path / "detector" / "run.json").read_text())["history"]]
    assert losses[-1] < losses[0]


def test_the_pooled_training_learns_and_tells_its_architecture(places: Places, tmp_path: Path) -> None:
    there = Places(places.data, places.weights, places.cache, tmp_path)

    train_pooled.run(there, train_pooled.Config(heads=2, hidden=16, epochs=30, batch=8, rate=3e-3))

    record = json.loads((tmp_path / "run.json").read_text())["history"][-1]
    assert record["auc"] > 0.8
    made_of = export_bundle.Ingredients(
        places.weights, tmp_path / "classifier.safetensors", tmp_path, "a", "2026-01-01", ""
    )
    assert made_of.classifier_entry() == {"architecture": "vgg16_pooled", "options": {"hidden": 32}}
    classifier = PooledClassifier(0.0625, 32)
    classifier.load_state_dict(load_file(tmp_path / "classifier.safetensors"))


def test_joined_heads_give_the_mean_of_their_logits() -> None:
    features = torch.randn(9, 12, generator=torch.Generator().manual_seed(0))
    heads = [PooledHead(12, hidden).eval() for hidden in (3, 5)]

    joint = train_pooled.mean_of(heads)

    torch.testing.assert_close(joint.judge(features), (heads[0].judge(features) + heads[1].judge(features)) / 2)


def test_training_goes_on_from_its_checkpoint(places: Places, tmp_path: Path) -> None:
    there = Places(places.data, places.weights, places.cache, tmp_path)
    train_detector.run(there, train_detector.Config(steps=2, evaluate_every=2, checkpoint_every=2))
    first = load_file(tmp_path / "detector.safetensors")

    train_detector.run(there, train_detector.Config(steps=3, evaluate_every=3, checkpoint_every=3))

    history = json.loads((tmp_path / "run.json").read_text())["history"]
    assert [entry["step"] for entry in history] == [2, 3]
    assert first.keys() == load_file(tmp_path / "detector.safetensors").keys()


def test_the_points_keep_their_rules() -> None:
    random = np.random.default_rng(0)
    fractured, normal = random.beta(4, 2, 81), random.beta(2, 4, 246)

    low, high = export_bundle.sensitive_point(fractured), export_bundle.specific_point(normal)

    assert (fractured >= low).mean() >= export_bundle.SENSITIVITY > (fractured > low).mean()
    assert (normal < high).mean() >= export_bundle.SPECIFICITY
    assert (normal < np.nextafter(high, 0)).mean() < export_bundle.SPECIFICITY + 1 / 246


def prediction(fractured: bool, logit: float, score: float, hit: bool = True) -> evaluate.Prediction:
    box = (10.0, 10.0, 30.0, 30.0)
    found = ScoredBox(*(box if hit else (50.0, 50.0, 70.0, 70.0)), score)
    truth = (box,) if fractured else ()
    radiograph = Radiograph("a.png", Path("a.png"), "valid", fractured, False, ("hand",), truth)
    return evaluate.Prediction(radiograph, logit, (found,), 0.1)


def test_the_box_threshold_lets_through_the_allowed_number_of_false_boxes() -> None:
    false = [prediction(False, 0.0, score / 100) for score in range(1, 21)]

    threshold = export_bundle.box_threshold(false)

    assert sum(item.best_score >= threshold for item in false) == export_bundle.FALSE_BOXES_AN_IMAGE * 20


def test_calibration_trusts_the_network_that_is_right_and_drops_the_one_that_is_wrong() -> None:
    random = np.random.default_rng(1)
    truth = random.random(400) < 0.3
    said = [prediction(bool(t), float(random.normal(2 * t - 1, 1)), float(random.uniform(0.1, 0.9))) for t in truth]
    reversed_score = [prediction(bool(t), float(random.normal(2 * t - 1, 1)), 0.2 if t else 0.8) for t in truth]

    fitted, without_detector = export_bundle.calibrate(said), export_bundle.calibrate(reversed_score)

    assert fitted.classifier_weight > 1
    assert abs(fitted.detector_weight) < 0.5
    assert without_detector.detector_weight == 0
    probability = np.array([fitted.probability(item.logit, item.best_score) for item in said])
    assert probability.mean() == pytest.approx(truth.mean(), abs=0.01)


def test_the_report_s_figures_are_those_counted_by_hand() -> None:
    predictions = [
        prediction(True, 2.0, 0.9),
        prediction(True, -2.0, 0.4, hit=False),
        prediction(False, 1.0, 0.3),
        prediction(False, -3.0, 0.2),
    ]

    figures = evaluate.measure(predictions, Calibration(0, 1, 0), OperatingPoints(low=0.1, high=0.5, box_score=0.35))

    assert figures["auc"] == 0.75
    assert figures["high"]["sensitivity"] == figures["high"]["specificity"] == figures["high"]["accuracy"] == 0.5
    assert figures["low"]["sensitivity"] == 1.0
    assert figures["boxes"]["sensitivity_at_box_score"] == 0.5
    assert figures["boxes"]["false_boxes_an_image_at_box_score"] == 0.25
    assert figures["decisions"] == {
        "fractured": {"present": 1, "inconclusive": 1, "absent": 0},
        "normal": {"present": 1, "inconclusive": 0, "absent": 1},
    }
