from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.preprocess import Preprocessing, prepare
from training.data.chips import ImageCache
from training.data.dataset import Radiograph
from training.data.samples import (
    BatchSampler,
    Mixture,
    TrainingSample,
    body_parts_of,
    by_shape,
    location_target,
    padded,
    targets_of,
    whole,
)
from training.errors import CannotTrain

TINY = Preprocessing(160, denoise="none")
BOX = (60.0, 30.0, 80.0, 54.0)


def radiograph(folder: Path, name: str, fractured: bool, boxes: tuple = ()) -> Radiograph:
    pixels = np.random.default_rng(len(name)).integers(10, 80, (150, 120), dtype=np.uint8)
    for x1, y1, x2, y2 in boxes:
        pixels[int(y1) : int(y2), int(x1) : int(x2)] = 250
    path = folder / f"{name}.png"
    Image.fromarray(pixels).save(path)
    return Radiograph(path.name, path, "train", fractured, False, ("hand",), boxes)


@pytest.fixture
def radiographs(tmp_path: Path) -> list[Radiograph]:
    return [radiograph(tmp_path, "fractured", True, (BOX,)), radiograph(tmp_path, "normal", False)]


def sampler(radiographs: list[Radiograph], mixture: Mixture) -> BatchSampler:
    return BatchSampler(radiographs, ImageCache(radiographs, TINY), mixture)


def test_the_location_target_marks_cells_in_the_box_and_ignores_the_ring() -> None:
    target, weight = location_target(torch.tensor([[32.0, 16.0, 64.0, 48.0]]), 6, 6)

    assert target.nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert weight[1:3, 2:4].min() == 1
    assert weight[0, 2] == weight[1, 1] == weight[3, 3] == 0
    assert weight[5, 5] == 1


def test_a_box_smaller_than_a_cell_still_teaches_one_cell() -> None:
    target, _ = location_target(torch.tensor([[17.0, 33.0, 19.0, 35.0]]), 6, 6)

    assert target.nonzero().tolist() == [[2, 1]]


def test_an_unchanged_image_is_shown_as_the_product_shows_it(radiographs: list[Radiograph]) -> None:
    shown = padded(ImageCache(radiographs, TINY).get(radiographs[0]))

    canvas, _ = prepare(radiographs[0].pixels(), TINY)
    np.testing.assert_allclose(shown, canvas, atol=0.51 / 255)


def test_a_moved_image_keeps_its_label_and_its_box_lies_on_the_bright_square(radiographs: list[Radiograph]) -> None:
    image = ImageCache(radiographs, TINY).get(radiographs[0])
    inside, outside = [], []

    for seed in range(30):
        sample = whole(image, np.random.default_rng(seed))
        assert sample.fractured
        assert len(sample.boxes_xyxy) == 1
        x1, y1, x2, y2 = sample.boxes_xyxy[0].astype(int)
        inside.append(np.median(sample.pixels[y1:y2, x1:x2]))
        outside.append(np.median(sample.pixels))

    assert sample.pixels.shape == (160, 128)
    assert np.median(inside) > 2 * np.median(outside)


def test_a_fracture_that_would_leave_the_canvas_stays(tmp_path: Path) -> None:
    corner = radiograph(tmp_path, "corner", True, ((0.0, 0.0, 10.0, 10.0),))
    image = ImageCache([corner], TINY).get(corner)

    shown = [whole(image, np.random.default_rng(seed)) for seed in range(40)]

    assert all(len(sample.boxes_xyxy) == 1 for sample in shown)
    stayed = [sample for sample in shown if np.array_equal(sample.boxes_xyxy, image.boxes_xyxy)]
    assert 0 < len(stayed) < len(shown)


def test_both_classes_are_shown_alike_however_rare_one_is(radiographs: list[Radiograph]) -> None:
    many = [radiographs[0], *[replace(radiographs[1], name=f"normal{number}.png") for number in range(9)]]
    drawing = sampler(many, Mixture(seed=1))

    shown = [drawing.draw(0, number).fractured for number in range(200)]

    assert 0.4 < np.mean(shown) < 0.6


def test_a_chip_s_label_is_what_the_chip_shows(radiographs: list[Radiograph]) -> None:
    drawing = sampler(radiographs, Mixture(seed=1, chip=64, whole=0.0, elsewhere=0.5))

    chips = [drawing.draw(0, number) for number in range(60)]

    assert {sample.pixels.shape for sample in chips} == {(64, 64)}
    assert all(sample.fractured == (len(sample.boxes_xyxy) > 0) for sample in chips)
    assert 5 < sum(sample.fractured for sample in chips) < 40


def test_whole_images_can_be_mixed_with_chips(radiographs: list[Radiograph]) -> None:
    drawing = sampler(radiographs, Mixture(seed=1, chip=64, whole=0.5))

    groups = by_shape([drawing.draw(0, number) for number in range(40)])

    assert {group[0].pixels.shape for group in groups} == {(64, 64), (160, 128)}
    assert min(len(group) for group in groups) > 10


def test_a_fractured_image_without_boxes_teaches_by_its_label_alone(tmp_path: Path) -> None:
    unknown, normal = radiograph(tmp_path, "unknown", True), radiograph(tmp_path, "normal", False)
    drawing = sampler([unknown, normal], Mixture(seed=1, chip=64, positives=1.0))

    sample = drawing.draw(0, 0)

    assert sample.pixels.shape == (160, 128)
    assert sample.fractured
    assert targets_of([sample], 10, 8)[1].max() == 0


def test_batches_are_those_of_their_steps_wherever_a_run_goes_on(radiographs: list[Radiograph]) -> None:
    drawing = sampler(radiographs, Mixture(seed=3))

    whole_run = list(drawing.batches(2, range(5)))
    resumed = list(drawing.batches(2, range(3, 5), workers=3))

    assert len(whole_run) == 5
    for first, second in zip(whole_run[3:], resumed, strict=True):
        for one, other in zip(first, second, strict=True):
            assert np.array_equal(one.pixels, other.pixels)


def test_one_class_alone_cannot_be_learnt(radiographs: list[Radiograph]) -> None:
    with pytest.raises(CannotTrain, match="there are 1 fractured and 0 normal"):
        sampler(radiographs[:1], Mixture(seed=1))


def test_body_parts_are_five_answers() -> None:
    empty = np.zeros((32, 32), np.float32)
    sample = TrainingSample(empty, np.empty((0, 4), np.float32), False, True, ("leg", "mixed"))

    assert body_parts_of([sample]).tolist() == [[0, 1, 0, 0, 1]]
