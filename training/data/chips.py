"""Prepared images in memory, and chips cut from them: small pieces at the resolution of the whole.

A fracture covers 0.4 % of its image, so most of a whole image's work teaches nothing new. A chip around a fracture and
a chip from elsewhere teach the same at a fifth of the cost; the networks are convolutions and read whole images later.

References
----------
B. Singh, M. Najibi, L. S. Davis, "SNIPER: Efficient Multi-Scale Training", NeurIPS 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.preprocess import Preprocessing, prepare, reduce_noise
from training.data.augment import Geometry, develop, paste, place
from training.data.dataset import Radiograph
from training.errors import CannotTrain

FloatArray = NDArray[np.float32]
DRAWS = 3
NEAR = 48  # pixels around a place that are looked at
BONE_DRAWS, BONE = 12, 12  # places drawn, and pixels around each


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image as the network will see it: uint8 (rows, columns) to save memory, boxes (n, 4) in its pixels."""

    radiograph: Radiograph
    pixels: NDArray[np.uint8]
    boxes_xyxy: FloatArray


@dataclass(frozen=True, slots=True)
class Chip:
    """A piece: float32 (size, size) in 0..1, boxes (n, 4) in its pixels."""

    pixels: FloatArray
    boxes_xyxy: FloatArray


class ImageCache:
    """The prepared images of a split, each prepared when it is first asked for and then kept."""

    def __init__(self, radiographs: Sequence[Radiograph], preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing
        self._kept: dict[str, Prepared] = {}
        self.fractured = [item for item in radiographs if item.boxes_xyxy]
        self.normal = [item for item in radiographs if not item.fractured]

    def require_both(self) -> None:
        """Raise CannotTrain where there is no fracture with a box, or no image without a fracture, to draw from."""
        if not self.fractured or not self.normal:
            found = f"{len(self.fractured)} with boxes and {len(self.normal)} normal"
            raise CannotTrain(f"training needs images of fractures with boxes and normal ones; there are {found}")

    def get(self, radiograph: Radiograph) -> Prepared:
        """Return an image prepared as the bundle prepares a patient's."""
        if radiograph.name not in self._kept:
            pixels = radiograph.pixels()
            canvas, letterbox = prepare(pixels, self._preparation(pixels))
            content = canvas[: letterbox.rows, : letterbox.columns]
            boxes = letterbox.to_canvas(radiograph.boxes_xyxy).astype(np.float32)
            self._kept[radiograph.name] = Prepared(radiograph, np.rint(content * 255).astype(np.uint8), boxes)
        return self._kept[radiograph.name]

    def _preparation(self, _pixels: FloatArray) -> Preprocessing:
        return self._preprocessing


class FullSizeCache(ImageCache):
    """Images stretched, but at the resolution of their files up to the given longest side, noise and all.

    What happens to an image before it reaches us happens at that resolution; a `Look` prepares what is cut from it.
    """

    def _preparation(self, pixels: FloatArray) -> Preprocessing:
        side = min(max(pixels.shape), self._preprocessing.longest_side)
        return replace(self._preprocessing, longest_side=side, denoise="none")


@dataclass(frozen=True, slots=True)
class Look:
    """How a chip of a `FullSizeCache` is prepared: as part of an image whose longest side is drawn from `sides`."""

    sides: tuple[int, int]
    preprocessing: Preprocessing

    def draw(self, image: Prepared, random: np.random.Generator) -> float:
        """Draw how much an image is enlarged."""
        low, high = np.log(self.sides)
        return float(np.exp(random.uniform(low, high)) / max(image.pixels.shape))

    def prepare(self, chip: Chip, size: int) -> Chip:
        """Resize a chip and reduce its noise, as `models.preprocess.prepare` does with an image."""
        side = chip.pixels.shape[0]
        way = cv2.INTER_AREA if size <= side else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(chip.pixels, (size, size), interpolation=way), dtype=np.float32)
        return Chip(reduce_noise(pixels, self.preprocessing), chip.boxes_xyxy * np.float32(size / side))


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts chips of `size` pixels a side; with a `look`, out of a `FullSizeCache`.

    Such a chip is cut and changed at the resolution of its file, and only then resized: noise and compression of a
    small picture are enlarged with it, as in service.
    """

    size: int
    geometry: Geometry
    look: Look | None = None

    def around_fracture(self, image: Prepared, random: np.random.Generator) -> Chip:
        """Cut a chip that shows a fracture somewhere, not always in its middle."""
        side = self._side(image, random)
        return self._developed(self._cut(image, self._near_fracture(image, side, random), side, random), random)

    def anywhere(self, image: Prepared, random: np.random.Generator) -> Chip:
        """Cut a chip from a place drawn by chance; of a few draws the one with most to see, for much is black."""
        side = self._side(image, random)
        return self._developed(self._cut(image, self._place_to_see(image, random), side, random), random)

    def pasted(self, ground: Prepared, image: Prepared, random: np.random.Generator) -> Chip:
        """Cut a chip around a fracture and paste what its boxes hold onto a bone of an image without fractures.

        With a look, fracture and ground come at scales of their own.
        """
        side, own = self._side(ground, random), self._side(image, random)
        above = self._cut(image, self._near_fracture(image, own, random), side, random, enlargement=side / own)
        on = above.boxes_xyxy[:, :2] + above.boxes_xyxy[:, 2:] if len(above.boxes_xyxy) else [[side, side]]
        below = self._cut(ground, _on_bone(ground.pixels, random), side, random, to_xy=tuple(np.mean(on, axis=0) / 2))
        pasted = Chip(paste(below.pixels, above.pixels, above.boxes_xyxy), above.boxes_xyxy)
        return self._developed(pasted, random)

    def _side(self, image: Prepared, random: np.random.Generator) -> int:
        """Draw how many pixels of the file's resolution a chip shows."""
        return round(self.size / self.look.draw(image, random)) if self.look else self.size

    def _near_fracture(self, image: Prepared, side: int, random: np.random.Generator) -> tuple[float, float]:
        x1, y1, x2, y2 = image.boxes_xyxy[random.integers(len(image.boxes_xyxy))]
        reach = 0.38 * side / self.geometry.zoom
        off_x, off_y = random.uniform(-reach, reach, 2)
        return (x1 + x2) / 2 + off_x, (y1 + y2) / 2 + off_y

    @staticmethod
    def _place_to_see(image: Prepared, random: np.random.Generator) -> tuple[float, float]:
        rows, columns = image.pixels.shape
        tries = [(random.uniform(0, columns), random.uniform(0, rows)) for _ in range(DRAWS)]
        return max(tries, key=lambda xy: _texture(image.pixels, xy))

    def _cut(
        self,
        image: Prepared,
        place_xy: tuple[float, float],
        side: int,
        random: np.random.Generator,
        *,
        to_xy: tuple[float, float] | None = None,
        enlargement: float = 1.0,
    ) -> Chip:
        """Cut the chip in which a place of the image comes to lie at `to_xy`, else in the middle."""
        matrix = self.geometry.draw(random, place_xy, (side, side), enlargement)
        if to_xy:
            matrix[:, 2] += np.array(to_xy) - side / 2
        pixels = np.asarray(image.pixels, dtype=np.float32) / np.float32(255)
        return Chip(*place(pixels, image.boxes_xyxy, matrix, (side, side)))

    def _developed(self, chip: Chip, random: np.random.Generator) -> Chip:
        changed = Chip(develop(chip.pixels, random), chip.boxes_xyxy)
        return self.look.prepare(changed, self.size) if self.look else changed


def _texture(pixels: NDArray[np.uint8], centre_xy: tuple[float, float]) -> float:
    x, y = (int(value) for value in centre_xy)
    near = pixels[max(0, y - NEAR) : y + NEAR, max(0, x - NEAR) : x + NEAR]
    return float(near.std())


def _on_bone(pixels: NDArray[np.uint8], random: np.random.Generator) -> tuple[float, float]:
    """Draw a place where the image is bright all around: of what a radiograph shows, bone is."""
    rows, columns = pixels.shape
    places = [(random.uniform(0, columns), random.uniform(0, rows)) for _ in range(BONE_DRAWS)]
    return max(places, key=lambda xy: _brightness(pixels, xy))


def _brightness(pixels: NDArray[np.uint8], centre_xy: tuple[float, float]) -> float:
    x, y = (int(value) for value in centre_xy)
    near = pixels[max(0, y - BONE) : y + BONE, max(0, x - BONE) : x + BONE]
    return float(np.median(near))
