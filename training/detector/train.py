"""Train Faster R-CNN with a feature pyramid on chips cut from the training images.

    python -m training.detector.train --data DATA --backbone mobilenet_v2 --weights MOBILENET.safetensors --run FOLDER

The backbone starts from ImageNet and is tuned at a rate of its own; pyramid, proposals and box heads start from chance.
Or all of it is that of an earlier run or a bundle (`--start` instead of `--weights`), to which `--stages 2
--last-stage-only` adds a second stage of box heads in minutes. Run again, it goes on from its checkpoint. The averaged
weights of the best evaluation are in the run's folder, which `training.bundle.export` takes. Best is what has the
highest mAP50 on valid and tune together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from models.detector import detections_of
from models.preprocess import normalise, prepare
from training.backbones import BACKBONES
from training.bundle.parts import Design, write_part
from training.data.augment import Geometry
from training.data.chips import Chip, Cutter, FullSizeCache, ImageCache, Look, Prepared
from training.data.dataset import Radiograph, for_training, judging_blocks
from training.detector.options import BACKBONE, DetectorConfig, read_options
from training.detector.start import Detector, build
from training.errors import ending_in_words
from training.evaluate.metrics import (
    BoxesOfImage,
    average_precision,
    free_response,
    mean_average_precision,
    points_at,
)
from training.hardware import Hardware
from training.loop import Places, Training, descend, record_of
from training.runs import Run


def draw(image_cache: ImageCache, cutter: Cutter, config: DetectorConfig, step: int) -> list[Chip]:
    """Cut one batch; the same seed and step give the same chips."""
    chips = []
    for number in range(config.batch):
        random = np.random.default_rng([config.seed, step, number])
        kind = random.random()
        if kind < config.negatives:
            chips.append(cutter.anywhere(_one_of(image_cache, image_cache.normal, random), random))
        elif kind < config.negatives + config.elsewhere:
            chips.append(cutter.anywhere(_one_of(image_cache, image_cache.fractured, random), random))
        elif kind < 1 - config.pasted:
            chips.append(cutter.around_fracture(_one_of(image_cache, image_cache.fractured, random), random))
        else:
            ground = _one_of(image_cache, image_cache.normal, random)
            chips.append(cutter.pasted(ground, _one_of(image_cache, image_cache.fractured, random), random))
    return chips


def images_of(radiographs: list[Radiograph], config: DetectorConfig) -> ImageCache:
    """Keep the images that chips are cut from, at the resolution that `cutter_of` asks for."""
    if config.sides is None:
        return ImageCache(radiographs, config.preprocessing)
    return FullSizeCache(radiographs, replace(config.preprocessing, longest_side=config.sides[1]))


def cutter_of(config: DetectorConfig) -> Cutter:
    """Cut chips at one scale, or at scales that the zoom then only blurs."""
    if config.sides is None:
        return Cutter(config.chip, Geometry())
    return Cutter(config.chip, Geometry(degrees=25.0, zoom=1.1), Look(config.sides, config.preprocessing))


def _one_of(image_cache: ImageCache, radiographs: list[Radiograph], random: np.random.Generator) -> Prepared:
    return image_cache.get(radiographs[random.integers(len(radiographs))])


def train_step(
    detector: Detector, optimizer: torch.optim.Optimizer, chips: list[Chip], on: Hardware
) -> dict[str, float]:
    """Take one step; returns the four losses."""
    images = on.images(
        torch.from_numpy(np.stack([normalise(chip.pixels, detector.trunk.normalisation) for chip in chips]))
    )
    targets = [
        {
            "boxes": torch.from_numpy(chip.boxes_xyxy).to(on.device),
            "labels": torch.ones(len(chip.boxes_xyxy), dtype=torch.int64, device=on.device),
        }
        for chip in chips
    ]
    with on.autocast():
        _, losses = detector(images, targets)
    return descend(detector, optimizer, losses)


@torch.inference_mode()
def detect(
    detector: Detector, radiographs: list[Radiograph], config: DetectorConfig, on: Hardware
) -> list[BoxesOfImage]:
    """Run the detector over whole images; boxes in pixels of the files."""
    found = []
    for radiograph in tqdm(radiographs, desc="valid", unit="image", leave=False, mininterval=5, disable=None):
        canvas, letterbox = prepare(radiograph.pixels(), config.preprocessing)
        images = on.images(torch.from_numpy(normalise(canvas, detector.trunk.normalisation))[None])
        with on.autocast():
            detections, _ = detector.network(detector.trunk(images), [(letterbox.rows, letterbox.columns)])
        boxes, scores = detections_of(detections[0])
        found.append(
            BoxesOfImage(
                letterbox.to_source(boxes.double().cpu().numpy()),
                scores.double().cpu().numpy(),
                np.array(radiograph.boxes_xyxy, dtype=np.float64).reshape(-1, 4),
            )
        )
    return found


def figures_of(images: list[BoxesOfImage]) -> dict[str, Any]:
    """Measure boxes on all images and on the fractured ones alone."""
    fractured = [image for image in images if len(image.truth)]
    rates = (0.1, 0.25, 0.5, 1.0)
    return {
        "map50": average_precision(images),
        "map50_95": mean_average_precision(images),
        "map50_fractured_only": average_precision(fractured),
        "free_response": dict(zip(map(str, rates), free_response(images, rates), strict=True)),
        "free_response_iou30_or_centre": dict(
            zip(map(str, rates), free_response(images, rates, 0.3, points_at), strict=True)
        ),
    }


def set_to_learn(detector: Detector, config: DetectorConfig) -> None:
    """Turn what shall learn to training; the rest only answers."""
    if config.last_stage_only:
        detector.eval().requires_grad_(False)
        detector.network.stages[-1].train().requires_grad_(True)
    else:
        detector.train()


def optimizer_of(detector: Detector, config: DetectorConfig) -> torch.optim.Optimizer:
    """Give the layers that come from ImageNet a lower rate than those that start from chance."""
    pretrained = [p for p in (*detector.trunk.parameters(), *detector.network.deeper.parameters()) if p.requires_grad]
    known = {id(parameter) for parameter in pretrained}
    fresh = [parameter for parameter in detector.parameters() if id(parameter) not in known and parameter.requires_grad]
    backbone = BACKBONES[config.backbone or BACKBONE]
    rates: dict[float, list[nn.Parameter]] = defaultdict(list)
    for parameter in pretrained:
        rates[config.backbone_rate * backbone.steps(parameter)].append(parameter)
    rates[config.rate] += fresh
    groups = [{"params": each, "lr": rate, "base": rate} for rate, each in rates.items() if each]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


Material = tuple[ImageCache, Mapping[str, list[Radiograph]]]


class DetectorTraining(Training[Detector]):
    """A detector's run; `material` is the images that teach and the blocks that it is measured on."""

    part, figure = "detector", "map50"
    config: DetectorConfig

    def __init__(
        self,
        record: Run,
        config: DetectorConfig,
        on: Hardware,
        start: tuple[Detector, Design],
        material: Material,
    ) -> None:
        detector, self.design = start
        self.images, self.blocks = material
        on.place(detector)
        set_to_learn(detector, config)
        super().__init__(record, config, on, detector, optimizer_of(detector, config))

    def batches(self) -> Generator[list[Chip], None, None]:
        """Yield a batch for each step that is left, the next one cut while the last one is learnt."""
        cutter = cutter_of(self.config)
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(draw, self.images, cutter, self.config, self.step)
            for step in range(self.step + 1, self.config.steps + 1):
                ready = coming.result()
                coming = pool.submit(draw, self.images, cutter, self.config, step)
                yield ready

    def learn_from(self, batch: list[Chip]) -> dict[str, float]:
        """Take one step of the optimizer; return the four losses."""
        return train_step(self.network, self.optimizer, batch, self.on)

    def measure(self, network: Detector) -> dict[str, Any]:
        """Return the figures on all blocks together, and those of each."""
        found = {name: detect(network, block, self.config, self.on) for name, block in self.blocks.items()}
        figures = figures_of([image for block in found.values() for image in block])
        if len(found) > 1:
            figures["blocks"] = {name: figures_of(images) for name, images in found.items()}
        return figures

    def keep(self, network: Detector) -> None:
        """Write trunk and detector."""
        write_part("detector", self.design, network.trunk, network.network, self.record.folder)


def training_of(places: Places, config: DetectorConfig, on: Hardware | None = None) -> DetectorTraining:
    """Build the run on a collection, or what is left of it."""
    on = on or Hardware.repeatable(places.device)
    start = build(places, config)
    config = replace(config, backbone=start[1].trunk)
    record = record_of(places, config, on, f"Detector on {config.backbone}")
    return DetectorTraining(record, config, on, start, material_of(places, config))


def material_of(places: Places, config: DetectorConfig) -> Material:
    """Read the images that teach, and the blocks that there are to measure on."""
    images = images_of(for_training(places.data), config)
    if config.negatives + config.pasted > 0 or not images.fractured:
        images.require_both()
    return images, judging_blocks(places.data)


def main() -> None:
    """Read the command line."""
    with ending_in_words():
        training_of(*read_options(__doc__)).run()


if __name__ == "__main__":
    main()
