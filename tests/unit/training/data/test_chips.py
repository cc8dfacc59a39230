from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.preprocess import Preprocessing
from training.data.augment import Geometry, paste
from training.data.chips import Chip, Cutter, FullSizeCache, ImageCache, Look
from training.data.dataset import Radiograph

SIZE = 64
BOX = (60.0, 30.0, 76.0, 50.0)


PREPARATION = Preprocessing(160, denoise="none")


def cache(folder: Path, kind: type[ImageCache] = ImageCache, preparation: Preprocessing = PREPARATION) -> ImageCache:
    random = np.random.default_rng(0)
    radiographs = []
    for name, boxes in (("fractured", (BOX,)), ("normal", ())):
        pixels = random.integers(10, 80, (160, 120), dtype=np.uint8)
        for x1, y1, x2, y2 in boxes:
            pixels[int(y1) : int(y2), int(x1) : int(x2)] = 250
        path = folder / f"{name}.png"
        Image.fromarray(pixels).save(path)
        radiographs.append(Radiograph(path.name, path, "train", bool(boxes), False, (), boxes))
    return kind(radiographs, preparation)


def test_a_chip_around_a_fracture_shows_one(tmp_path: Path) -> None:
    images = cache(tmp_path)
    cutter = Cutter(SIZE, Geometry(degrees=0))

    for seed in range(20):
        chip = cutter.around_fracture(images.get(images.fractured[0]), np.random.default_rng(seed))
        assert chip.pixels.shape == (SIZE, SIZE)
        assert len(chip.boxes_xyxy) == 1


def test_a_box_of_a_chip_lies_on_the_bright_square(tmp_path: Path) -> None:
    images = cache(tmp_path)
    cutter = Cutter(SIZE, Geometry(degrees=0))
    inside, outside = [], []

    for seed in range(20):
        chip = cutter.around_fracture(images.get(images.fractured[0]), np.random.default_rng(seed))
        within = np.zeros((SIZE, SIZE), bool)
        x1, y1, x2, y2 = chip.boxes_xyxy[0].astype(int)
        within[y1:y2, x1:x2] = True
        inside.append(chip.pixels[within].mean())
        outside.append(chip.pixels[~within].mean())

    # Once in a while an image is inverted; in the median it is not.
    assert np.median(inside) > 2 * np.median(outside)


def test_a_chip_of_a_normal_image_has_no_box_and_is_the_generator_s_alone(tmp_path: Path) -> None:
    images = cache(tmp_path)
    image = images.get(images.normal[0])

    first, second = (Cutter(SIZE, Geometry()).anywhere(image, np.random.default_rng(5)) for _ in range(2))

    assert first.boxes_xyxy.shape == (0, 4)
    assert np.array_equal(first.pixels, second.pixels)


def test_an_image_is_prepared_once(tmp_path: Path) -> None:
    images = cache(tmp_path)

    assert images.get(images.normal[0]) is images.get(images.normal[0])


def test_a_pasted_fracture_keeps_its_box_and_the_ground_stays_as_it_was_elsewhere(tmp_path: Path) -> None:
    images = cache(tmp_path)
    ground = np.full((SIZE, SIZE), 0.3, np.float32)
    shown = np.full((SIZE, SIZE), 0.6, np.float32)
    shown[30:34, 20:40] = 1.0  # a line across the box
    box = np.array([[20, 24, 40, 40]], np.float32)

    result = paste(ground, shown, box)

    assert result[31, 30] > result[27, 30] + 0.2
    np.testing.assert_allclose(result[:8], 0.3, atol=1e-6)
    chip = Cutter(SIZE, Geometry(degrees=0)).pasted(
        images.get(images.normal[0]), images.get(images.fractured[0]), np.random.default_rng(3)
    )
    assert len(chip.boxes_xyxy) == 1


def still(side: int, monkeypatch: pytest.MonkeyPatch) -> Cutter:
    """Return a cutter that only enlarges, to one longest side."""
    monkeypatch.setattr("training.data.chips.develop", lambda pixels, _random: pixels)
    return Cutter(SIZE, Geometry(degrees=0, zoom=1.0, mirrored=0, upside_down=0), Look((side, side), PREPARATION))


def test_a_file_is_kept_as_it_is_and_a_larger_one_reduced(tmp_path: Path) -> None:
    kept, reduced = (cache(tmp_path, FullSizeCache, Preprocessing(side)) for side in (400, 80))

    assert kept.get(kept.fractured[0]).pixels.shape == (160, 120)
    assert reduced.get(reduced.fractured[0]).pixels.shape == (80, 60)
    np.testing.assert_allclose(reduced.get(reduced.fractured[0]).boxes_xyxy, [np.array(BOX) / 2])


@pytest.mark.parametrize("side", [80, 160, 320])
def test_a_box_has_the_size_that_the_drawn_side_gives_it_and_lies_on_its_square(
    side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = cache(tmp_path, FullSizeCache)
    cutter = still(side, monkeypatch)

    for seed in range(5):
        chip = cutter.around_fracture(images.get(images.fractured[0]), np.random.default_rng(seed))
        x1, y1, x2, y2 = chip.boxes_xyxy[0]
        whole = min(x1, y1) > 0 and max(x2, y2) < SIZE
        if whole:
            np.testing.assert_allclose([x2 - x1, y2 - y1], np.array([16, 20]) * side / 160, rtol=0.05)
        within = chip.pixels[round(y1) + 1 : round(y2) - 1, round(x1) + 1 : round(x2) - 1]
        assert chip.pixels.shape == (SIZE, SIZE)
        assert within.mean() > 0.85


def test_changes_happen_at_the_file_s_resolution_before_it_is_enlarged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = cache(tmp_path, FullSizeCache)
    cutter = still(320, monkeypatch)
    sides = []

    def note(pixels: np.ndarray, _random: np.random.Generator) -> np.ndarray:
        sides.append(pixels.shape)
        return pixels

    monkeypatch.setattr("training.data.chips.develop", note)
    cutter.anywhere(images.get(images.normal[0]), np.random.default_rng(0))

    assert sides == [(SIZE // 2, SIZE // 2)]


def test_noise_is_reduced_in_a_chip_as_in_an_image() -> None:
    pixels = np.random.default_rng(0).normal(0.5, 0.05, (SIZE, SIZE)).astype(np.float32)
    look = Look((160, 160), replace(PREPARATION, denoise="bilateral"))

    quiet = look.prepare(Chip(pixels, np.empty((0, 4), np.float32)), SIZE)

    assert quiet.pixels.std() < 0.7 * pixels.std()


def test_a_fracture_is_pasted_at_a_scale_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = cache(tmp_path, FullSizeCache)
    cutter = replace(still(160, monkeypatch), look=Look((80, 240), PREPARATION))
    ground, image = images.get(images.normal[0]), images.get(images.fractured[0])

    widths = []
    for seed in range(12):
        chip = cutter.pasted(ground, image, np.random.default_rng(seed))
        left, right = chip.boxes_xyxy[0, [0, 2]]
        widths.append(float(right - left))
        assert chip.pixels.shape == (SIZE, SIZE)
    assert max(widths) > 1.5 * min(widths)
    assert max(widths) < 16 * 240 / 160 + 1
