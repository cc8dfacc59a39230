"""A plain convolutional network from scratch: what a few layers learn from these images without pretrained weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from training.data.augment import Geometry, develop, place
from training.evaluate.metrics import auc
from training.hardware import Hardware
from training.runs import Average, rate_at

FloatArray = NDArray[np.float32]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
NO_BOXES = np.empty((0, 4), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Config:
    """What was chosen; an epoch shows every fractured image once and as many others."""

    side: int = 128
    channels: tuple[int, ...] = (16, 32, 64, 96, 128)
    epochs: int = 30
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.01
    average: float = 0.99
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Examples:
    """Square images (n, side, side) in 0..1 and whether each is fractured (n,)."""

    pictures: FloatArray
    labels: Flags


class BasicCNN(nn.Module):
    """Convolution, normalisation and pooling by two, five times over; then the mean of each channel and one logit."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        pairs = zip((1, *channels), channels, strict=False)
        self.features = nn.Sequential(*(_stage(inner, outer) for inner, outer in pairs))
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(channels[-1], 1))

    def forward(self, images: Tensor) -> Tensor:
        """Take images (n, 1, side, side) in -1..1; returns logits (n,)."""
        logits: Tensor = self.head(self.features(images).mean((2, 3)))
        return logits[:, 0]


def _stage(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(), nn.MaxPool2d(2)
    )


def train(fit: Examples, tune: Examples, config: Config, on: Hardware) -> tuple[BasicCNN, list[dict[str, Any]]]:
    """Train; returns the averaged weights of the epoch with the best AUC on `tune`, and the AUC of every epoch."""
    torch.manual_seed(config.seed)
    network = BasicCNN(config.channels)
    on.place(network)
    optimizer = torch.optim.AdamW(network.parameters(), config.rate, weight_decay=config.weight_decay)
    average = Average(network, config.average)
    history: list[dict[str, Any]] = []
    best: dict[str, Tensor] = {}
    step, total = 0, config.epochs * len(_batches(fit.labels, config, 0))
    for epoch in tqdm(range(config.epochs), desc="basic CNN", unit="epoch", mininterval=5):
        network.train()
        for number, chosen in enumerate(_batches(fit.labels, config, epoch)):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = config.rate * rate_at(step, total, total // 20)
            _learn(network, optimizer, _augmented(fit, chosen, [config.seed, epoch, number]), on)
            average.update(network, step)
        history.append({"epoch": epoch + 1, "auc": auc(tune.labels, score(average.module, tune.pictures, on))})
        if history[-1]["auc"] >= max(entry["auc"] for entry in history):
            best = {name: tensor.clone() for name, tensor in average.module.state_dict().items()}
    network.load_state_dict(best)
    return network.eval(), history


@torch.inference_mode()
def score(network: BasicCNN, pictures: FloatArray, on: Hardware, batch: int = 64) -> Floats:
    """Return the probabilities (n,) of pictures (n, side, side)."""
    network.eval()
    logits = [network(_input(pictures[start : start + batch], on)) for start in range(0, len(pictures), batch)]
    return np.asarray(torch.sigmoid(torch.cat(logits).float()).double().cpu().numpy())


def _input(pictures: FloatArray, on: Hardware) -> Tensor:
    return on.images(torch.from_numpy(2 * pictures[:, None] - 1))


def _batches(labels: Flags, config: Config, epoch: int) -> list[NDArray[np.intp]]:
    """Shuffle all fractured images and as many others, anew for each epoch, and cut them into batches."""
    random = np.random.default_rng([config.seed, epoch])
    fractured, normal = np.flatnonzero(labels), np.flatnonzero(~labels)
    drawn = random.choice(normal, min(len(normal), len(fractured)), replace=False)
    shuffled = random.permutation(np.concatenate([fractured, drawn]))
    return np.array_split(shuffled, max(1, round(len(shuffled) / config.batch)))


def _augmented(examples: Examples, chosen: NDArray[np.intp], seed: list[int]) -> Examples:
    random, geometry, side = np.random.default_rng(seed), Geometry(zoom=1.2), examples.pictures.shape[1]
    pictures = []
    for number in chosen:
        matrix = geometry.draw(random, (side / 2, side / 2), (side, side))
        placed, _ = place(examples.pictures[number], NO_BOXES, matrix, (side, side))
        pictures.append(develop(placed, random))
    return Examples(np.stack(pictures), examples.labels[chosen])


def _learn(network: BasicCNN, optimizer: torch.optim.Optimizer, batch: Examples, on: Hardware) -> None:
    with on.autocast():
        logits = network(_input(batch.pictures, on))
    labels = torch.from_numpy(batch.labels.astype(np.float32)).to(on.device)
    loss = binary_cross_entropy_with_logits(logits.float(), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
