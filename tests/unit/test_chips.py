from pathlib import Path

import numpy as np
from PIL import Image

from models.preprocess import Preprocessing
from training.augment import Geometry, paste
from training.chips import Album, Cutter
from training.dataset import Radiograph

SIZE = 64
BOX = (60.0, 30.0, 76.0, 50.0)


def album(folder: Path) -> Album:
    random = np.random.default_rng(0)
    radiographs = []
    for name, boxes in (("fractured", (BOX,)), ("normal", ())):
        pixels = random.integers(10, 80, (160, 120), dtype=np.uint8)
        for x1, y1, x2, y2 in boxes:
            pixels[int(y1) : int(y2), int(x1) : int(x2)] = 250
        path = folder / f"{name}.png"
        Image.fromarray(pixels).save(path)
        radiographs.append(Radiograph(path.name, path, "train", bool(boxes), False, (), boxes))
    return Album(radiographs, Preprocessing(160, denoise="none"))


def test_a_chip_around_a_fracture_shows_one(tmp_path: Path) -> None:
    images = album(tmp_path)
    cutter = Cutter(SIZE, Geometry(degrees=0))

    for seed in range(20):
        chip = cutter.around_fracture(images.get(images.fractured[0]), np.random.default_rng(seed))
        assert chip.pixels.shape == (SIZE, SIZE)
        assert len(chip.boxes_xyxy) == 1


def test_a_box_of_a_chip_lies_on_the_bright_square(tmp_path: Path) -> None:
    images = album(tmp_path)
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
    images = album(tmp_path)
    image = images.get(images.normal[0])

    first, second = (Cutter(SIZE, Geometry()).anywhere(image, np.random.default_rng(5)) for _ in range(2))

    assert first.boxes_xyxy.shape == (0, 4)
    assert np.array_equal(first.pixels, second.pixels)


def test_an_image_is_prepared_once(tmp_path: Path) -> None:
    images = album(tmp_path)

    assert images.get(images.normal[0]) is images.get(images.normal[0])


def test_a_pasted_fracture_keeps_its_box_and_the_ground_stays_as_it_was_elsewhere(tmp_path: Path) -> None:
    images = album(tmp_path)
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
