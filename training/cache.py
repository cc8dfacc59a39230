"""Run the frozen trunk once over the images and keep its maps on disk.

    python -m training.cache --data DATA --weights VGG16.safetensors --cache FOLDER

Two CPU cores spend most of an epoch in VGG16's first four blocks, which stay frozen: their maps are computed once, in
bfloat16. Fractured images are kept in four variants (as is, mirrored, two jittered), the others in one of the four,
drawn by chance, so that a variant never gives the label away. Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from models.preprocess import Preprocessing, normalise, prepare
from models.vgg import BLOCK5_START, VGG16Block5, VGG16Trunk
from training.augment import flip, jitter
from training.dataset import Radiograph, load

FloatArray = NDArray[np.float32]
VARIANTS = ("plain", "mirrored", "jittered", "jittered_mirrored")
PREPROCESSING = Preprocessing(longest_side=576)
SEED = 20240501
BATCH = 4
WINDOW = 64  # so many images are read at a time and sorted by shape, for full batches


@dataclass(frozen=True, slots=True)
class Sample:
    """One variant of one radiograph."""

    radiograph: Radiograph
    variant: str

    @property
    def key(self) -> str:
        """Name the sample's file without its suffix."""
        return f"{Path(self.radiograph.name).stem}-{self.variant}"


def plan(folder: Path) -> list[Sample]:
    """List what is to be computed: valid first, then train in four rounds, so that training can begin early."""
    random = np.random.default_rng(SEED)
    train = load(folder, "train")
    positives = [item for item in train if item.fractured]
    negatives = [item for item in train if not item.fractured]
    random.shuffle(negatives)
    samples = [Sample(item, "plain") for item in load(folder, "valid")]
    for number, variant in enumerate(VARIANTS):
        samples += [Sample(item, variant) for item in positives]
        samples += [Sample(item, str(random.choice(VARIANTS))) for item in negatives[number :: len(VARIANTS)]]
    return samples


def render(sample: Sample, preprocessing: Preprocessing) -> tuple[FloatArray, FloatArray]:
    """Read, augment and prepare one sample: canvas (rows, columns) and boxes (n, 4) in canvas pixels."""
    pixels = sample.radiograph.pixels()
    boxes = np.array(sample.radiograph.boxes_xyxy, dtype=np.float32).reshape(-1, 4)
    if sample.variant.startswith("jittered"):
        random = np.random.default_rng([SEED, *sample.key.encode()])
        pixels, boxes = jitter(pixels, boxes, random)
    if sample.variant.endswith("mirrored"):
        pixels, boxes = flip(pixels, boxes)
    canvas, letterbox = prepare(pixels, preprocessing)
    return canvas, letterbox.to_canvas(boxes).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Vgg:
    """VGG16's layers as they come from ImageNet; `width` is 1 for VGG16 as published."""

    width: float
    trunk: VGG16Trunk
    block5: VGG16Block5


def load_vgg(path: Path) -> Vgg:
    """Split torchvision's VGG16 feature weights into trunk and block 5; the width follows from the first layer."""
    tensors = load_file(path)
    width = tensors["features.0.weight"].shape[0] / 64
    trunk, block5 = VGG16Trunk(width), VGG16Block5(width)
    halves: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for name, tensor in tensors.items():
        index = int(name.split(".")[1])  # features.24.weight
        halves[index >= BLOCK5_START][name] = tensor.float()
    trunk.load_state_dict(halves[0])
    block5.load_state_dict(halves[1])
    return Vgg(width, trunk, block5)


def batches(
    samples: list[Sample], preprocessing: Preprocessing
) -> Iterator[list[tuple[Sample, FloatArray, FloatArray]]]:
    """Yield up to BATCH rendered samples of one canvas shape at a time."""
    for start in range(0, len(samples), WINDOW):
        rendered = [(sample, *render(sample, preprocessing)) for sample in samples[start : start + WINDOW]]
        by_shape: dict[tuple[int, ...], list[tuple[Sample, FloatArray, FloatArray]]] = {}
        for item in rendered:
            by_shape.setdefault(item[1].shape, []).append(item)
        for group in by_shape.values():
            yield from (group[index : index + BATCH] for index in range(0, len(group), BATCH))


def save(path: Path, maps: dict[str, Tensor]) -> None:
    """Write one sample's tensors so that a reader never sees half a file."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(maps, temporary)
    temporary.replace(path)


@torch.inference_mode()
def run(data: Path, weights: Path, cache: Path, preprocessing: Preprocessing = PREPROCESSING) -> None:
    """Compute what is missing in the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    trunk = load_vgg(weights).trunk.eval().bfloat16().to(memory_format=torch.channels_last)
    todo = [sample for sample in plan(data) if not (cache / f"{sample.key}.safetensors").exists()]
    with tqdm(total=len(todo), unit="image") as progress:
        for batch in batches(todo, preprocessing):
            images = torch.from_numpy(np.stack([normalise(canvas) for _, canvas, _ in batch]))
            maps = trunk(images.bfloat16().contiguous(memory_format=torch.channels_last))
            for index, (sample, _, boxes) in enumerate(batch):
                # Rows, columns, channels: the memory order of channels_last, so that reading copies nothing.
                conv4 = maps[index].permute(1, 2, 0).contiguous()
                save(cache / f"{sample.key}.safetensors", {"conv4": conv4, "boxes": torch.from_numpy(boxes)})
            progress.update(len(batch))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--weights", type=Path, required=True, help="VGG16 ImageNet features (safetensors)")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the maps (about 4.5 MB a sample)")
    arguments = parser.parse_args()
    run(arguments.data, arguments.weights, arguments.cache)


if __name__ == "__main__":
    main()
