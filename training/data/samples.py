"""What the classifier is shown in a step: whole images and chips, with labels and the boxes carried along.

Every sample is drawn from [seed, step, number] and nothing else, so that a run that was interrupted goes on with the
samples it would have had.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.preprocess import CANVAS_MULTIPLE
from training.data.augment import Geometry, develop, place
from training.data.chips import Chip, Cutter, ImageCache, Prepared
from training.data.dataset import BODY_PARTS, Radiograph
from training.errors import CannotTrain

FloatArray = NDArray[np.float32]
STRIDE = 16  # canvas pixels a cell of block 5's map
AHEAD = 2  # batches prepared while one is learnt
WHOLE_IMAGES = Geometry(degrees=15.0, zoom=1.2)


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One picture to learn from.

    `pixels` is float32 (rows, columns) in 0..1, both multiples of 32; `boxes_xyxy` (n, 4) in its pixels. `located` says
    whether the boxes are all there is: a fractured image without boxes teaches by its label alone.
    """

    pixels: FloatArray
    boxes_xyxy: FloatArray
    fractured: bool
    located: bool
    body_parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mixture:
    """What the samples of a run are made of."""

    seed: int
    chip: int = 0  # side of a chip in pixels; 0 shows whole images only
    whole: float = 0.25  # share of whole images beside chips
    positives: float = 0.5  # share of fractured images: both classes weigh the same whatever the collection holds
    elsewhere: float = 0.1  # share of a fractured image's chips that are cut anywhere in it


class BatchSampler:
    """Draws samples from the training images.

    Raises
    ------
    CannotTrain
        The images are all of one class.
    """

    def __init__(self, radiographs: Sequence[Radiograph], image_cache: ImageCache, mixture: Mixture) -> None:
        self._images, self._mixture = image_cache, mixture
        self._cutter = Cutter(mixture.chip, Geometry())
        self._fractured = [item for item in radiographs if item.fractured]
        self._normal = [item for item in radiographs if not item.fractured]
        if not self._fractured or not self._normal:
            found = f"{len(self._fractured)} fractured and {len(self._normal)} normal"
            raise CannotTrain(f"training needs images of both classes; there are {found}")

    def draw(self, step: int, number: int) -> TrainingSample:
        """Draw sample `number` of a step."""
        random = np.random.default_rng([self._mixture.seed, step, number])
        group = self._fractured if random.random() < self._mixture.positives else self._normal
        image = self._images.get(group[random.integers(len(group))])
        located = bool(len(image.boxes_xyxy)) or not image.radiograph.fractured
        if not self._mixture.chip or not located or random.random() < self._mixture.whole:
            return whole(image, random)
        chip = self._cut(image, random)
        return TrainingSample(
            chip.pixels, chip.boxes_xyxy, bool(len(chip.boxes_xyxy)), True, image.radiograph.body_parts
        )

    def _cut(self, image: Prepared, random: np.random.Generator) -> Chip:
        if image.radiograph.fractured and random.random() >= self._mixture.elsewhere:
            return self._cutter.around_fracture(image, random)
        return self._cutter.anywhere(image, random)

    def batches(self, size: int, steps: range, workers: int = 1) -> Generator[list[TrainingSample], None, None]:
        """Yield a batch of so many samples for each step, the next ones prepared while one is learnt."""
        pool = ThreadPoolExecutor(workers)
        coming: deque[list[Future[TrainingSample]]] = deque()
        try:
            for step in steps:
                coming.append([pool.submit(self.draw, step, number) for number in range(size)])
                if len(coming) > AHEAD:
                    yield [future.result() for future in coming.popleft()]
            while coming:
                yield [future.result() for future in coming.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)


def whole(image: Prepared, random: np.random.Generator) -> TrainingSample:
    """Show a whole image on the canvas that the product would give it, moved and developed anew."""
    radiograph = image.radiograph
    rows, columns = image.pixels.shape
    size = canvas_of(rows, columns)
    pixels = develop(np.asarray(image.pixels, dtype=np.float32) / np.float32(255), random)
    matrix = WHOLE_IMAGES.draw(random, (columns / 2, rows / 2), size)
    canvas, boxes = place(pixels, image.boxes_xyxy, matrix, size)
    if len(boxes) < len(image.boxes_xyxy):
        # A fracture was moved off the canvas, and the label would no longer be true: this one stays where it was.
        canvas, boxes = place(pixels, image.boxes_xyxy, np.eye(2, 3), size)
    located = bool(radiograph.boxes_xyxy) or not radiograph.fractured
    return TrainingSample(canvas, boxes, radiograph.fractured, located, radiograph.body_parts)


def canvas_of(rows: int, columns: int) -> tuple[int, int]:
    """Return the sides of the canvas that `models.preprocess.prepare` pads an image of this size to."""
    return -(-rows // CANVAS_MULTIPLE) * CANVAS_MULTIPLE, -(-columns // CANVAS_MULTIPLE) * CANVAS_MULTIPLE


def padded(image: Prepared) -> FloatArray:
    """Return an unchanged image as the product shows it to the network: float32, canvas, content at the top left."""
    canvas = np.zeros(canvas_of(*image.pixels.shape), dtype=np.float32)
    canvas[: image.pixels.shape[0], : image.pixels.shape[1]] = image.pixels / np.float32(255)
    return canvas


def by_shape(samples: Sequence[TrainingSample]) -> list[list[TrainingSample]]:
    """Group a batch by canvas: padding to a common one would show the network what the product never does."""
    groups: dict[tuple[int, ...], list[TrainingSample]] = {}
    for sample in samples:
        groups.setdefault(sample.pixels.shape, []).append(sample)
    return list(groups.values())


def location_target(boxes: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Draw boxes (n, 4), canvas pixels, on block 5's map of cells.

    Returns
    -------
    tuple
        Target (rows, columns): 1 where a cell's centre lies in a box or the cell holds a box's centre; weight
        (rows, columns): 0 in the ring of one cell around a box, where either answer is right, 1 elsewhere.
    """
    y = (torch.arange(rows) + 0.5)[:, None] * STRIDE
    x = (torch.arange(columns) + 0.5)[None] * STRIDE
    target, near = torch.zeros(rows, columns), torch.zeros(rows, columns)
    for x1, y1, x2, y2 in boxes.tolist():
        target[(x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)] = 1
        ring = (x >= x1 - STRIDE) & (x <= x2 + STRIDE) & (y >= y1 - STRIDE) & (y <= y2 + STRIDE)
        near[ring] = 1
        row, column = int((y1 + y2) / 2 / STRIDE), int((x1 + x2) / 2 / STRIDE)
        target[min(row, rows - 1), min(column, columns - 1)] = 1
    return target, torch.where((near > 0) & (target == 0), 0.0, 1.0)


def targets_of(samples: Sequence[TrainingSample], rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return targets and weights (n, rows, columns) of samples of one shape; all weights 0 where no box is known."""
    pairs = [location_target(torch.from_numpy(sample.boxes_xyxy), rows, columns) for sample in samples]
    known = torch.tensor([float(sample.located) for sample in samples])[:, None, None]
    targets, weights = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    return targets, weights * known


def body_parts_of(samples: Sequence[TrainingSample]) -> Tensor:
    """Return 1 for each of `BODY_PARTS` that is seen: (n, 5)."""
    return torch.tensor([[float(part in sample.body_parts) for part in BODY_PARTS] for sample in samples])


def workers_for(device_type: str) -> int:
    """Say how many threads prepare samples: on the CPU the network needs the cores itself."""
    return 1 if device_type == "cpu" else min(12, os.cpu_count() or 1)
