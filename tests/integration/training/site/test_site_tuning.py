"""The parts of a site's run: the head that is fitted, the detector that is tuned, the comparison."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import Bundle, load_bundle
from models.classifier import Classifier, LocationMapClassifier, PooledClassifier
from models.manifest import BoxCalibrationEntry, Manifest
from models.preprocess import normalise, prepare
from models.types import ScoredBox
from tests.bundles import WIDTH
from tests.site import Site, as_picture, write_lively_bundle, write_site
from training.data.dataset import Radiograph
from training.evaluate.calibration import FALSE_BOXES_AN_IMAGE, calibrate_boxes
from training.evaluate.metrics import auc, match
from training.evaluate.predictions import Prediction, boxes_of, rescored
from training.hardware import Hardware
from training.site.classifier import Features, HeadConfig, logits_of, tune_classifier
from training.site.comparison import difference_interval, verdict
from training.site.detector import config_for, tune_detector
from training.site.labels import read_boxes, read_labels
from training.site.progress import Progress
from training.site.split import Split, split_by_patient
from training.site.training import calibrate_on

CPU = Hardware(torch.device("cpu"), torch.float32)


@pytest.fixture
def pictures(tmp_path: Path) -> Site:
    site = Site(tmp_path / "pictures")
    write_site(site, as_picture)
    return site


def wrong_way_round(bundle: Bundle) -> LocationMapClassifier:
    """Return the bundle's classifier with a head that takes dark for bright."""
    classifier: LocationMapClassifier = copy.deepcopy(bundle.classifier)
    classifier.head.peaks.weight.data *= -0.01
    return classifier


def untaught(_bundle: Bundle) -> PooledClassifier:
    torch.manual_seed(0)
    return PooledClassifier(WIDTH, hidden=16).eval().requires_grad_(False)


@pytest.mark.parametrize("classifier", [wrong_way_round, untaught])
def test_a_head_learns_what_a_fracture_looks_like_here(
    classifier: Callable[[Bundle], Classifier], pictures: Site, tmp_path: Path
) -> None:
    write_lively_bundle(tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    bundle = replace(loaded, classifier=classifier(loaded))
    config = HeadConfig(epochs=40, patience=40, rate=2e-2)

    tuned = tune_classifier(bundle, split_of(pictures), config, CPU, Progress(tmp_path))

    assert tuned.changed
    assert tuned.before is not None
    assert tuned.after is not None
    assert tuned.after > max(tuned.before, 0.9)


def test_a_pooled_head_is_fitted_on_what_it_will_be_shown(pictures: Site, tmp_path: Path) -> None:
    write_lively_bundle(tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    torch.manual_seed(0)
    classifier = PooledClassifier(WIDTH, hidden=16, strongest=4).eval().requires_grad_(False)
    bundle = replace(loaded, classifier=classifier)
    item = split_of(pictures).train[0]

    (sample,) = Features(bundle, CPU, tmp_path / "features").samples([item], "train", mirrored=False)

    canvas, _ = prepare(item.pixels(), bundle.manifest.classifier.preprocessing.build())
    logits = classifier(
        bundle.classifier_trunk(torch.from_numpy(normalise(canvas, bundle.classifier_trunk.normalisation))[None])
    ).logits
    torch.testing.assert_close(logits_of(classifier.head, [sample], CPU), logits, rtol=1e-4, atol=1e-6)


def split_of(site: Site) -> Split:
    coco = read_boxes(site.boxes)
    boxes = {image.key: image.boxes_xyxy for image in coco}
    return split_by_patient(
        [
            Radiograph(label.key, site.images / label.key, "own", label.fractured, False, (), boxes.get(label.key, ()))
            for label in read_labels(site.labels)
        ],
        seed=1,
    )


def a_folder(path: Path, name: str) -> Path:
    (path / name).mkdir()
    return path / name


def test_the_same_seed_gives_the_same_detector(pictures: Site, tmp_path: Path) -> None:
    write_lively_bundle(tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")

    first, second = (
        tune_detector(
            bundle, split_of(pictures), config_for(bundle, 2, seed=3), CPU, Progress(a_folder(tmp_path, name))
        )
        for name in ("first", "second")
    )

    assert first.after == second.after
    weights = first.network.state_dict(), second.network.state_dict()
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())


def test_without_boxes_the_detector_stays_as_it_is(pictures: Site, tmp_path: Path) -> None:
    write_lively_bundle(tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    split = split_of(pictures)
    parts = (split.train, split.tune, split.held_back)
    bare = Split(*(tuple(replace(item, boxes_xyxy=()) for item in part) for part in parts))

    tuned = tune_detector(bundle, bare, config_for(bundle, 2, seed=3), CPU, Progress(tmp_path))

    assert tuned.network is bundle.detector
    assert (tuned.before, tuned.changed) == (None, False)


def test_a_difference_has_an_interval_that_holds_it_and_is_paired() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(200) % 4 == 0
    old = truth + random.normal(0, 2, 200)
    new = old + 0.8 * truth
    patients = [f"p{number // 2}" for number in range(200)]

    low, high = difference_interval(truth, old, new, patients)

    assert 0 < low < auc(truth, new) - auc(truth, old) < high
    assert difference_interval(truth, old, old, patients) == (0.0, 0.0)
    assert [verdict((0.1, 0.2)), verdict((-0.2, -0.1)), verdict((-0.1, 0.1))] == [
        "better",
        "worse",
        "no difference shown",
    ]


def predictions_of(site: Site) -> list[Prediction]:
    """Return what a detector would say that finds every box, and on every image a false one of a lower score."""
    random = np.random.default_rng(0)
    said = []
    for item in (image for part in ("train", "tune", "held_back") for image in getattr(split_of(site), part)):
        boxes = [ScoredBox(*box, random.uniform(0.2, 0.9)) for box in item.boxes_xyxy]
        boxes.append(ScoredBox(0.0, 0.0, 5.0, 5.0, random.uniform(0.1, 0.6)))
        ordered = tuple(sorted(boxes, key=lambda box: -box.score))
        said.append(Prediction(item, random.normal(2 * item.fractured - 1, 1), ordered, 0.1))
    return said


def manifest_with_boxes(folder: Path) -> Manifest:
    write_lively_bundle(folder)
    manifest = load_bundle(folder).manifest
    boxes = BoxCalibrationEntry(intercept=-1.0, score_weight=0.7, classifier_weight=0.2)
    return manifest.model_copy(update={"calibration": manifest.calibration.model_copy(update={"boxes": boxes})})


def test_the_box_threshold_is_on_the_scale_of_the_scores_that_decide(pictures: Site, tmp_path: Path) -> None:
    said = predictions_of(pictures)

    calibration, points = calibrate_on(said, manifest_with_boxes(tmp_path / "bundle"))

    images = [boxes_of(rescored(item, calibration), points.box_score) for item in said]
    hits = [int(match(image, 0.5).sum()) for image in images]
    assert calibration.boxes is not None
    assert sum(len(image.scores) for image in images) - sum(hits) == int(FALSE_BOXES_AN_IMAGE * len(said))
    assert sum(hits) > 0


def test_a_fracture_that_nobody_drew_does_not_calibrate_boxes(pictures: Site, tmp_path: Path) -> None:
    said = predictions_of(pictures)
    fractured = next(place for place, item in enumerate(said) if item.radiograph.fractured)
    said[fractured] = replace(said[fractured], radiograph=replace(said[fractured].radiograph, boxes_xyxy=()))

    calibration, _ = calibrate_on(said, manifest_with_boxes(tmp_path / "bundle"))

    assert calibration.boxes == calibrate_boxes([item for place, item in enumerate(said) if place != fractured])


def test_without_boxes_their_calibration_and_threshold_stay_those_of_the_old_bundle(
    pictures: Site, tmp_path: Path
) -> None:
    old = manifest_with_boxes(tmp_path / "bundle")
    said = [replace(item, radiograph=replace(item.radiograph, boxes_xyxy=())) for item in predictions_of(pictures)]

    calibration, points = calibrate_on(said, old)

    assert calibration.boxes == old.calibration.build().boxes
    assert points.box_score == old.decision.box_score
