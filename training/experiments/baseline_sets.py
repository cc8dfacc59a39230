"""The two sets of images that simple models and the product's are compared on, and their parts.

*natural*: train and valid as given, about one image in six fractured. *balanced*: the kind of set that papers report,
about 1,200 images, half of them fractured, drawn from both blocks. Files that end early are in neither.

FracAtlas does not say which images are of one patient. Blocks of ten consecutive numbers, in which a study's images
mostly lie, and near duplicates stay together in one part; a patient may still be in two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from training.data.dataset import Radiograph, load
from training.data.near_duplicates import groups_of, kept_pairs

Numbers = NDArray[np.intp]
Flags = NDArray[np.bool_]
SetName = Literal["natural", "balanced"]
NEIGHBOURS = 10
BALANCED_IMAGES = 1200
FOLDS = 20  # a twentieth is the unit of 70, 15 and 15 %


@dataclass(frozen=True, slots=True)
class Pool:
    """All whole images of train and valid; `groups` (n,) numbers those that must not be parted."""

    radiographs: tuple[Radiograph, ...]
    groups: Numbers

    @property
    def labels(self) -> Flags:
        """Fractured or not, (n,)."""
        return np.array([item.fractured for item in self.radiographs], dtype=bool)

    @property
    def is_valid(self) -> Flags:
        """Whether an image is of the valid block, (n,)."""
        return np.array([item.split == "valid" for item in self.radiographs], dtype=bool)


@dataclass(frozen=True, slots=True)
class Parts:
    """Numbers of the pool's images: to learn from, to choose a threshold and stop by, to report on."""

    fit: Numbers
    tune: Numbers
    test: Numbers


def read_pool(data: Path, cache: Path) -> Pool:
    """Read the labels and find which images belong together; near duplicates are kept in the folder `cache`."""
    found = [item for split in ("train", "valid") for item in load(data, split) if not item.truncated]
    return Pool(tuple(found), grouped(found, [(pair.first, pair.second) for pair in kept_pairs(found, cache)]))


def grouped(radiographs: Sequence[Radiograph], pairs: Sequence[tuple[int, int]]) -> Numbers:
    """Join near duplicates and neighbours by number."""
    blocks: dict[str, int] = {}
    joined = list(pairs)
    for number, item in enumerate(radiographs):
        if digits := re.search(r"(\d+)$", item.path.stem):
            block = f"{item.path.stem[: digits.start()]}{int(digits[1]) // NEIGHBOURS}"
            joined.append((blocks.setdefault(block, number), number))
    return groups_of(len(radiographs), joined)


def parts_of(pool: Pool, name: SetName, seed: int) -> Parts:
    """Part a set; the same seed gives the same parts.

    natural: valid is reported on, 15 % of train chooses; groups of train that reach into valid are left out. balanced:
    70, 15 and 15 % of the images drawn.
    """
    if name == "natural":
        reaching = np.isin(pool.groups, pool.groups[pool.is_valid])  # a train image whose group reaches into valid
        chosen = np.flatnonzero(~pool.is_valid & ~reaching)
        tune, fit = _share(pool, chosen, 3, seed)
        return Parts(fit, tune, np.flatnonzero(pool.is_valid))
    chosen = draw_balanced(pool.labels, seed)
    test, rest = _share(pool, chosen, 3, seed)
    tune, fit = _share(pool, rest, 3, seed, FOLDS - 3)
    return Parts(fit, tune, test)


def draw_balanced(labels: Flags, seed: int, images: int = BALANCED_IMAGES) -> Numbers:
    """Draw so many images, half of them fractured, or as many as the rarer class allows."""
    random = np.random.default_rng(seed)
    half = min(images // 2, int(labels.sum()), int((~labels).sum()))
    drawn = [random.choice(np.flatnonzero(labels == kind), half, replace=False) for kind in (True, False)]
    return np.sort(np.concatenate(drawn))


def _share(pool: Pool, chosen: Numbers, folds: int, seed: int, of: int = FOLDS) -> tuple[Numbers, Numbers]:
    """Part so many folds of the chosen images from the rest; both have about the same share of fractured ones."""
    splitter = StratifiedGroupKFold(of, shuffle=True, random_state=seed)
    labels, groups = pool.labels[chosen], pool.groups[chosen]
    held = [fold for _, fold in splitter.split(chosen, labels, groups)][:folds]
    inside = np.zeros(len(chosen), dtype=bool)
    inside[np.concatenate(held)] = True
    return chosen[inside], chosen[~inside]
