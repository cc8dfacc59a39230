"""Find images that are nearly the same, mirrored or turned ones too: across a split they would be a leak.

    python -m training.data.near_duplicates --data DATA --out PAIRS.json
    python -m training.data.near_duplicates --data DATA --out tune.json --block 2597 3296    # writes tune.csv too

A hash of each image's coarse waves (DCT) proposes pairs, of whole images and of their upper parts, for a file that ends
early lacks its lower one. What confirms a pair is the correlation of fine detail, shifted a little against each other:
two radiographs of the same bone from the same side have their coarse waves in common, two copies of one radiograph its
grain and trabeculae.

References
----------
C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010 (the hash by DCT).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]
from tqdm import tqdm

from training.data.dataset import Radiograph, load
from training.data.texture import kept

FloatArray = NDArray[np.float32]
Hashes = NDArray[np.uint64]
Numbers = NDArray[np.intp]
SIDE = 128  # pixels of the small pictures that are compared
COARSE = 32  # pixels of the pictures that are hashed
MARGIN = 10  # so many pixels a picture may be shifted
UPPER = 0.6  # share of an image's rows that is compared by itself
FINE = 3.0  # pixels: what a Gaussian of this width leaves is no detail
ORIENTATIONS = 8  # four quarter turns, each also mirrored


@dataclass(frozen=True)
class DuplicateCriteria:
    """What counts as nearly the same: bits of 64 that may differ, and the least correlation of detail."""

    bits: int = 12
    correlation: float = 0.87


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images by number, how the second must be turned to lie on the first, and how alike they then are."""

    first: int
    second: int
    orientation: int
    correlation: float


def small(pixels: FloatArray) -> FloatArray:
    """Reduce an image to a square whatever its shape, so that a quarter turn changes nothing else."""
    return np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.float32)


def turned(pictures: FloatArray, orientation: int) -> FloatArray:
    """Turn pictures (n, rows, columns) by quarter turns; from orientation 4 on, mirrored before."""
    mirrored = pictures[:, :, ::-1] if orientation >= ORIENTATIONS // 2 else pictures
    return np.ascontiguousarray(np.rot90(mirrored, orientation % 4, axes=(1, 2)))


def hashes_of(pictures: FloatArray) -> Hashes:
    """Hash pictures (n, rows, columns) to 64 bits each (n,): which of the 8 x 8 lowest waves exceed their median."""
    coarse = [cv2.resize(picture, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for picture in pictures]
    waves = np.stack([cv2.dct(picture)[:8, :8].ravel() for picture in coarse])
    bits = waves > np.median(waves[:, 1:], axis=1, keepdims=True)  # without the mean, which is far above all others
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def detail_of(pictures: FloatArray) -> FloatArray:
    """Return what a blur would take away from pictures (n, rows, columns)."""
    return np.stack([picture - cv2.GaussianBlur(picture, (0, 0), FINE) for picture in pictures])


def correlation(one: FloatArray, other: FloatArray) -> float:
    """Best normalised correlation of one picture's middle with the other, over small shifts."""
    middle = one[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return float(cv2.matchTemplate(other, middle, cv2.TM_CCOEFF_NORMED).max())


def find_pairs(pictures: FloatArray, bar: DuplicateCriteria | None = None) -> list[Pair]:
    """Find all pairs of pictures (n, side, side) whose hashes are close and whose detail correlates."""
    bar = bar or DuplicateCriteria()
    upper = pictures[:, : round(UPPER * pictures.shape[1])]
    best: dict[tuple[int, int], Pair] = {}
    for pair in (*_alike(pictures, range(ORIENTATIONS), bar), *_alike(upper, (0,), bar)):
        known = best.get((pair.first, pair.second))
        if known is None or pair.correlation > known.correlation:
            best[pair.first, pair.second] = pair
    return [best[key] for key in sorted(best)]


def _alike(pictures: FloatArray, orientations: Sequence[int], bar: DuplicateCriteria) -> Iterator[Pair]:
    plain, detail = hashes_of(pictures), detail_of(pictures)
    for orientation in orientations:
        others, lying = hashes_of(turned(pictures, orientation)), turned(detail, orientation)
        for first in tqdm(range(len(pictures)), desc=f"orientation {orientation}", leave=False, mininterval=5):
            distances = np.bitwise_count(others[first + 1 :] ^ plain[first])
            for second in (first + 1 + np.flatnonzero(distances <= bar.bits)).tolist():
                alike = correlation(detail[first], lying[second])
                if alike >= bar.correlation:
                    yield Pair(first, second, orientation, alike)


def groups_of(count: int, pairs: Sequence[tuple[int, int]]) -> Numbers:
    """Give each of `count` images the number of its group: images that pairs join, directly or over others."""
    ones, others = (np.array([pair[side] for pair in pairs], dtype=np.intp) for side in (0, 1))
    joined = coo_array((np.ones(len(pairs)), (ones, others)), shape=(count, count))
    return np.asarray(connected_components(joined, directed=False)[1], dtype=np.intp)


def kept_pairs(radiographs: Sequence[Radiograph], cache: Path, bar: DuplicateCriteria | None = None) -> list[Pair]:
    """Find all pairs among images; pictures and pairs are kept in the folder `cache`."""
    bar = bar or DuplicateCriteria()
    pictures = kept(f"small {SIDE}", small, radiographs, cache)
    word = hashlib.sha256(pictures.tobytes() + repr(bar).encode()).hexdigest()[:16]
    path = cache / f"pairs-{word}.json"
    if not path.exists():
        path.write_text(json.dumps([asdict(pair) for pair in find_pairs(pictures, bar)]) + "\n")
    return [Pair(**entry) for entry in json.loads(path.read_text())]


def summarise(radiographs: Sequence[Radiograph], pairs: Sequence[Pair]) -> dict[str, Any]:
    """Say which pairs lie across splits, which have two labels, and how many groups there are.

    Where one of a pair's files ends early, measures on whole files do not see it; the other pairs are leaks.
    """
    both = [(radiographs[pair.first], radiographs[pair.second], pair) for pair in pairs]
    across = [
        {
            "images": [one.name, other.name],
            "splits": [one.split, other.split],
            "fractured": [one.fractured, other.fractured],
            "whole_files": not (one.truncated or other.truncated),
            "correlation": round(pair.correlation, 4),
        }
        for one, other, pair in both
        if one.split != other.split
    ]
    groups = np.unique(groups_of(len(radiographs), [(pair.first, pair.second) for pair in pairs]), return_counts=True)
    return {
        "images": len(radiographs),
        "pairs": len(pairs),
        "pairs_across_splits": len(across),
        "pairs_across_splits_of_whole_files": sum(bool(entry["whole_files"]) for entry in across),
        "pairs_with_two_labels": sum(one.fractured != other.fractured for one, other, _ in both),
        "groups": int((groups[1] > 1).sum()),
        "largest_group": int(groups[1].max()),
        "images_in_groups": int(groups[1][groups[1] > 1].sum()),
        "across_splits": sorted(across, key=lambda entry: not entry["whole_files"]),
    }


def block_of(radiographs: Sequence[Radiograph], pairs: Sequence[Pair], numbers: range) -> dict[str, str]:
    """Say what becomes of train where the images numbered so (`IMG0002597.jpg`) are cut from it as a block of its own.

    Returns
    -------
    dict
        By name `tune`, or `left out` for an image of train that is nearly one of the block. Images that lie in valid
        too are in neither: they never teach.
    """
    groups = groups_of(len(radiographs), [(pair.first, pair.second) for pair in pairs])
    in_valid = {groups[index] for index, item in enumerate(radiographs) if item.split == "valid"}
    train = {index: item.name for index, item in enumerate(radiographs) if groups[index] not in in_valid}
    cut = {index for index, name in train.items() if int("".join(filter(str.isdigit, Path(name).stem))) in numbers}
    near = {groups[index] for index in cut}
    return {
        name: "tune" if index in cut else "left out"
        for index, name in train.items()
        if index in cut or groups[index] in near
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--out", type=Path, required=True, help="JSON file with every pair, by the images' names")
    parser.add_argument("--cache", type=Path, default=Path("runs/baselines"), help="folder for what is computed once")
    parser.add_argument("--bits", type=int, default=DuplicateCriteria.bits)
    parser.add_argument("--correlation", type=float, default=DuplicateCriteria.correlation)
    parser.add_argument(
        "--block", type=int, nargs=2, metavar=("FIRST", "LAST"), help="cut these numbers from train: what tune.csv says"
    )
    given = parser.parse_args()
    radiographs = [item for split in ("train", "valid") for item in load(given.data, split)]
    pairs = kept_pairs(radiographs, given.cache, DuplicateCriteria(given.bits, given.correlation))
    named = [
        {**asdict(pair), "first": radiographs[pair.first].name, "second": radiographs[pair.second].name}
        for pair in pairs
    ]
    given.out.write_text(json.dumps(named, indent=1) + "\n")
    if given.block:
        block = block_of(radiographs, pairs, range(given.block[0], given.block[1] + 1))
        lines = ["file_name,use", *(f"{name},{use}" for name, use in sorted(block.items()))]
        given.out.with_suffix(".csv").write_text("\n".join(lines) + "\n")
    print(json.dumps(summarise(radiographs, pairs), indent=1))


if __name__ == "__main__":
    main()
