"""Train any of torchvision's architectures by its name, to compare it with what bonewatch ships.

    python -m training.experiments.architectures list
    python -m training.experiments.architectures train --name resnet50 --task classify --data DATA --run FOLDER

Classification networks (ResNet, DenseNet, EfficientNet, ViT and their kin) get one logit; detectors (SSD, RetinaNet,
FCOS, Faster R-CNN) one class beside the background. They start from chance, or from a backbone's weights in a
safetensors file (`--weights`). The run's folder gets `model.safetensors` and `model.json` of the best evaluation, from
which `training.experiments.torchvision_networks.load_model` builds the same network. A bundle holds VGG16 and Faster
R-CNN; these are for comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from models.detector import detections_of
from models.preprocess import Letterbox, Preprocessing, prepare
from training.data.augment import Geometry, develop, place
from training.data.chips import Chip, ImageCache, Prepared
from training.data.dataset import Radiograph, for_training, whole_files
from training.detector.train import figures_of
from training.errors import ending_in_words, require_finite
from training.evaluate.metrics import BoxesOfImage, auc
from training.experiments.torchvision_networks import Architecture, build, names, save_model
from training.hardware import Hardware
from training.runs import Run, rate_at

FloatArray = NDArray[np.float32]
# A whole image is moved less than a chip: what is pushed over the border is lost.
GEOMETRY = Geometry(degrees=15.0, zoom=1.15)


@dataclass(frozen=True)
class Config:
    """How it is trained."""

    steps: int = 2000
    batch: int = 8
    rate: float = 2e-4
    weight_decay: float = 0.05
    warmup: int = 100
    evaluate_every: int = 500
    fractured: float = 0.5  # share of fractured images in a batch
    seed: int = 5


@dataclass(frozen=True)
class Places:
    """Where it reads, writes and computes."""

    data: Path
    run: Path
    weights: Path | None = None
    device: str = "auto"


def batches(cache: ImageCache, side: int, config: Config) -> Iterator[list[Chip]]:
    """Yield batches of whole images on square canvases, moved and changed; seed and step decide them."""
    for step in range(config.steps):
        batch = []
        for number in range(config.batch):
            random = np.random.default_rng([config.seed, step, number])
            items = cache.fractured if random.random() < config.fractured else cache.normal
            batch.append(whole(cache.get(items[random.integers(len(items))]), side, random))
        yield batch


def whole(image: Prepared, side: int, random: np.random.Generator) -> Chip:
    """Lay a whole image on a square canvas, moved and changed, its boxes with it."""
    rows, columns = image.pixels.shape
    matrix = GEOMETRY.draw(random, (columns / 2, rows / 2), (side, side))
    pixels, boxes = place(image.pixels.astype(np.float32) / np.float32(255), image.boxes_xyxy, matrix, (side, side))
    return Chip(develop(pixels, random), boxes)


def train_step(
    model: nn.Module, architecture: Architecture, optimizer: torch.optim.Optimizer, batch: Sequence[Chip], on: Hardware
) -> float:
    """Take one step; returns its loss. An image is fractured where a box is left on it."""
    images = on.images(torch.from_numpy(np.stack([chip.pixels for chip in batch]))[:, None])
    with on.autocast():
        if architecture.task == "classify":
            labels = torch.tensor([float(len(chip.boxes_xyxy) > 0) for chip in batch], device=on.device)
            loss = binary_cross_entropy_with_logits(model(images), labels)
        else:
            losses = model(images, [_target(chip, on) for chip in batch])
            loss = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    value = float(loss.detach())
    require_finite({"loss": value})
    return value


def _target(chip: Chip, on: Hardware) -> dict[str, Tensor]:
    labels = torch.ones(len(chip.boxes_xyxy), dtype=torch.int64, device=on.device)
    return {"boxes": torch.from_numpy(chip.boxes_xyxy).to(on.device), "labels": labels}


def square(radiograph: Radiograph, preprocessing: Preprocessing) -> tuple[FloatArray, Letterbox]:
    """Prepare an image as in training, at the top left of a square canvas (side, side)."""
    canvas, letterbox = prepare(radiograph.pixels(), preprocessing)
    padded = np.zeros((preprocessing.longest_side,) * 2, dtype=np.float32)
    padded[: letterbox.rows, : letterbox.columns] = canvas[: letterbox.rows, : letterbox.columns]
    return padded, letterbox


@torch.inference_mode()
def judge(model: nn.Module, architecture: Architecture, valid: Sequence[Radiograph], on: Hardware) -> dict[str, Any]:
    """Measure a model on whole images: AUC of the logit, or every figure of boxes."""
    model.eval()
    logits, found = [], []
    for item in tqdm(valid, desc="valid", unit="image", leave=False, disable=None):
        pixels, letterbox = square(item, Preprocessing(architecture.side))
        with on.autocast():
            said = model(on.images(torch.from_numpy(pixels)[None, None]))
        if architecture.task == "classify":
            logits.append(float(said[0]))
        else:
            found.append(_boxes(said[0], letterbox, item))
    model.train()
    if architecture.task == "classify":
        return {"auc": auc([item.fractured for item in valid], logits)}
    return figures_of(found)


def _boxes(said: dict[str, Tensor], letterbox: Letterbox, item: Radiograph) -> BoxesOfImage:
    boxes, scores = detections_of(said)
    return BoxesOfImage(
        letterbox.to_source(boxes.double().cpu().numpy()),
        scores.double().cpu().numpy(),
        np.array(item.boxes_xyxy, dtype=np.float64).reshape(-1, 4),
    )


def run(architecture: Architecture, config: Config, places: Places) -> Run:
    """Train, measure now and then on valid, keep the best; returns the run's record."""
    on = Hardware.repeatable(places.device)
    torch.manual_seed(config.seed)
    model = build(architecture, places.weights)
    on.place(model)
    optimizer = torch.optim.AdamW(model.parameters(), config.rate, weight_decay=config.weight_decay)
    settings = {**asdict(architecture), **asdict(config), **on.describe()}
    record = Run(places.run, settings, places.data, title=f"{architecture.name} of torchvision")
    cache = ImageCache(for_training(places.data), Preprocessing(architecture.side))
    cache.require_both()
    valid = whole_files(places.data, "valid")
    best, figure = -1.0, "auc" if architecture.task == "classify" else "map50"
    losses: list[float] = []
    model.train()
    for step, batch in enumerate(tqdm(batches(cache, architecture.side, config), total=config.steps, disable=None), 1):
        optimizer.param_groups[0]["lr"] = config.rate * rate_at(step, config.steps, config.warmup)
        torch.manual_seed(config.seed * 1_000_003 + step)  # dropout and the samplers of boxes draw from it
        losses.append(train_step(model, architecture, optimizer, batch, on))
        if step % config.evaluate_every and step != config.steps:
            continue
        figures = judge(model, architecture, valid, on)
        record.record(step=step, loss=float(np.mean(losses)), **figures)
        losses = []
        if figures[figure] > best:
            best = figures[figure]
            save_model(model, architecture, places.run)
    record.finish(**{figure: best})
    return record


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the names that can be trained")
    train = commands.add_parser("train", help="train one")
    train.add_argument("--name", required=True, help="a name that `list` prints")
    train.add_argument("--task", choices=("classify", "detect"), required=True)
    train.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    train.add_argument("--run", type=Path, required=True, help="folder for model.json, model.safetensors and run.json")
    train.add_argument("--weights", type=Path, help="a backbone's weights (safetensors, torchvision's names)")
    train.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; a GPU where there is one if not given")
    train.add_argument("--side", type=int, default=512, help="side of the square images in pixels")
    for name in ("steps", "batch", "evaluate_every", "seed"):
        train.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Config, name))
    train.add_argument("--rate", type=float, default=Config.rate)
    given = vars(parser.parse_args())
    if given.pop("command") == "list":
        for task in ("classify", "detect"):
            print(f"{task}: {', '.join(names(task))}")
        return
    architecture = Architecture(given.pop("name"), given.pop("task"), given.pop("side"))
    places = Places(**{entry.name: given.pop(entry.name) for entry in fields(Places)})
    with ending_in_words():
        run(architecture, replace(Config(), **given), places)


if __name__ == "__main__":
    main()
