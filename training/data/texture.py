"""Hand-made features of a radiograph: histograms of oriented gradients (HOG) and local binary patterns (LBP).

References
----------
N. Dalal, B. Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005.
T. Ojala, M. Pietikainen, T. Maenpaa, "Multiresolution Gray-Scale and Rotation Invariant Texture Classification with
Local Binary Patterns", IEEE TPAMI 24, 2002.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.feature import hog, local_binary_pattern
from tqdm import tqdm

from models.preprocess import Preprocessing, prepare
from training.data.dataset import Radiograph

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Texture:
    """How the features are computed; lengths in pixels of the square canvas that the image is fitted into.

    Gradients are read on a canvas of `hog_side` in cells of `hog_cell`; patterns of `radii` on one of `lbp_side`,
    counted in `lbp_grid` x `lbp_grid` fields.
    """

    hog_side: int = 160
    hog_cell: int = 16
    orientations: int = 9
    lbp_side: int = 320
    lbp_grid: int = 4
    radii: tuple[int, ...] = (1, 2, 3)

    def describe(self, pixels: FloatArray) -> FloatArray:
        """Return the features (n,) of an image (rows, columns) in 0..1; n is the same for images of every shape."""
        gradients = hog(
            square(pixels, self.hog_side),
            orientations=self.orientations,
            pixels_per_cell=(self.hog_cell, self.hog_cell),
            cells_per_block=(2, 2),
            block_norm="L2-Hys",
        )
        grey = np.round(square(pixels, self.lbp_side) * 255).astype(np.uint8)
        patterns = [self._patterns(grey, radius) for radius in self.radii]
        return np.concatenate([gradients, *patterns]).astype(np.float32)

    def _patterns(self, grey: NDArray[np.uint8], radius: int) -> NDArray[np.float64]:
        """Count uniform patterns of 8 neighbours (10 kinds) in each field, as shares of the field."""
        codes = local_binary_pattern(grey, 8, radius, method="uniform").astype(np.intp)
        edges = np.linspace(0, len(grey), self.lbp_grid + 1).astype(int)
        fields = [codes[top:bottom, left:right] for top, bottom in pairwise(edges) for left, right in pairwise(edges)]
        return np.concatenate([np.bincount(field.ravel(), minlength=10) / field.size for field in fields])


def square(pixels: FloatArray, side: int) -> FloatArray:
    """Fit an image into the top left corner of a black square, its grey values stretched as for the networks."""
    canvas, _ = prepare(pixels, Preprocessing(side, denoise="none"))
    padded = np.zeros((side, side), dtype=np.float32)
    padded[: canvas.shape[0], : canvas.shape[1]] = canvas[:side, :side]
    return padded


def texture_of(radiographs: Sequence[Radiograph], cache: Path) -> FloatArray:
    """Return the features (images, n); they are kept in the folder `cache`."""
    texture = Texture()
    return kept(f"texture {asdict(texture)}", texture.describe, radiographs, cache)


def squares_of(radiographs: Sequence[Radiograph], side: int, cache: Path) -> FloatArray:
    """Return the images fitted into squares (images, side, side), 0..1; they are kept in the folder `cache`."""
    return kept(f"squares {side}", lambda pixels: square(pixels, side), radiographs, cache)


def kept(
    what: str, describe: Callable[[FloatArray], FloatArray], radiographs: Sequence[Radiograph], cache: Path
) -> FloatArray:
    """Describe every image, or read what was kept of the very same images; `what` names the features and settings."""
    files = [(item.name, item.path.stat().st_size) for item in radiographs]
    word = hashlib.sha256(json.dumps([what, files]).encode()).hexdigest()[:16]
    path = cache / f"{what.partition(' ')[0]}-{word}.npy"
    if path.exists():
        found: FloatArray = np.load(path, allow_pickle=False)
        return found
    bar = tqdm(radiographs, desc=what.partition(" ")[0], unit="image", mininterval=5)
    features = np.stack([describe(item.pixels()) for item in bar])
    cache.mkdir(parents=True, exist_ok=True)
    np.save(path, features)
    return features
