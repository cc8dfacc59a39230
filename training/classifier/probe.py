"""The classifier's head: perceptrons fitted on what the frozen network, ImageNet's or a tuned one, sees in each image.

The network runs once over the images, as the product would run it; what its last map holds on average and where it is
strongest is kept in the run's folder, so that an interrupted stage goes on where it stopped. Several perceptrons are
trained from several seeds and joined into one: the hidden units stand side by side and its logit is the mean of theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from models.classifier import PooledClassifier, PooledHead, pool
from models.preprocess import Normalisation, Preprocessing, normalise, prepare
from models.vgg import VGG16Block5, VGG16Trunk
from models.views import mirror
from training.backbones import BACKBONES
from training.bundle.parts import read_part
from training.data.dataset import Radiograph
from training.errors import expecting
from training.hardware import Hardware

FloatArray = NDArray[np.float32]
FEATURES_NAME = "features.safetensors"
AT_A_TIME = 64  # images prepared side by side
KEEP_EVERY = 256  # images between two writings of the file


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """How the perceptrons are fitted."""

    heads: int = 4
    hidden: int = 256  # of each head
    strongest: int = 8  # cells of each channel whose mean is pooled beside that of all; 1: the maximum
    epochs: int = 25
    batch: int = 64
    rate: float = 1e-3
    weight_decay: float = 0.1
    seed: int = 5


@dataclass(frozen=True, slots=True)
class ProbeLook:
    """An image as it is or mirrored."""

    radiograph: Radiograph
    mirrored: bool = False

    @property
    def key(self) -> str:
        """Name the look's features: a file that was changed has others, whatever its name."""
        file = self.radiograph.path.stat()
        return f"{self.radiograph.name} {file.st_size} {file.st_mtime_ns}{' mirrored' if self.mirrored else ''}"

    def canvas(self, preprocessing: Preprocessing, normalisation: Normalisation) -> FloatArray:
        """Return what the network is shown: float32 (3, rows, columns)."""
        pixels = self.radiograph.pixels()
        return normalise(prepare(mirror(pixels) if self.mirrored else pixels, preprocessing)[0], normalisation)


@dataclass(frozen=True, slots=True)
class Frozen:
    """VGG16 as ImageNet or a fine-tuning left it; `width` is 1 for VGG16 as published."""

    width: float
    trunk: VGG16Trunk
    block5: VGG16Block5
    preprocessing: Preprocessing
    strongest: int  # cells of each channel that are pooled beside all

    @staticmethod
    def read(weights: Path, preprocessing: Preprocessing, strongest: int) -> Frozen:
        """Read torchvision's VGG16 features and cut them as the product does: blocks 1 to 4, block 5."""
        backbone = BACKBONES["vgg16"]
        with expecting("VGG16's ImageNet features", weights):
            tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
            width = backbone.width(tensors)
            trunk, block5 = VGG16Trunk(width), VGG16Block5(width)
            below, above = backbone.split(tensors)
            trunk.load_state_dict(below)
            block5.load_state_dict(above)
        return Frozen(width, trunk.eval(), block5.eval(), preprocessing, strongest)

    @staticmethod
    def tuned(folder: Path, preprocessing: Preprocessing, strongest: int) -> Frozen:
        """Read VGG16 from the classifier of an earlier run or of a bundle."""
        with expecting("a classifier with a tuned VGG16", folder):
            part = read_part(folder, "classifier")
            width = part.design.width
            trunk, block5 = VGG16Trunk(width), VGG16Block5(width)
            trunk.load_state_dict(part.trunk)
            above = {name.removeprefix("block5."): each for name, each in part.network.items() if "block5." in name}
            block5.load_state_dict(above)
        return Frozen(width, trunk.eval(), block5.eval(), preprocessing, strongest)

    def digest(self) -> str:
        """Name the network, its input and how it is pooled: features of another one are of no use."""
        total = hashlib.sha256(repr((astuple(self.preprocessing), self.strongest)).encode())
        for module in (self.trunk, self.block5):
            for tensor in module.state_dict().values():
                total.update(tensor.cpu().numpy().tobytes())
        return total.hexdigest()


@torch.no_grad()
def pooled_features(frozen: Frozen, looks: Sequence[ProbeLook], folder: Path, on: Hardware) -> Tensor:
    """Return the pooled features (n, 2 * channels) of looks, float32, on the CPU.

    What is known is read from the folder, what is not is written there.
    """
    kept, digest = folder / FEATURES_NAME, frozen.digest()
    known = _read(kept, digest)
    missing = [look for look in looks if look.key not in known]
    for module in (frozen.trunk, frozen.block5):
        on.place(module)
    unwritten = 0
    with ThreadPoolExecutor() as threads, tqdm(total=len(missing), desc="pool", unit="image", mininterval=5) as bar:
        for start in range(0, len(missing), AT_A_TIME):
            some = missing[start : start + AT_A_TIME]
            canvases = threads.map(lambda look: look.canvas(frozen.preprocessing, frozen.trunk.normalisation), some)
            for look, canvas in zip(some, canvases, strict=True):
                known[look.key] = _pool(frozen, torch.from_numpy(canvas)[None], on)
                bar.update()
            unwritten += len(some)
            if unwritten >= KEEP_EVERY or start + AT_A_TIME >= len(missing):
                _write(kept, known, digest)
                unwritten = 0
    return torch.stack([known[look.key] for look in looks])


def _pool(frozen: Frozen, images: Tensor, on: Hardware) -> Tensor:
    with on.autocast():
        maps = frozen.block5(frozen.trunk(on.images(images)))
    return pool(maps.float(), frozen.strongest)[0].cpu()


def _read(kept: Path, digest: str) -> dict[str, Tensor]:
    if not kept.exists():
        return {}
    with safe_open(kept, "pt") as file:
        same = (file.metadata() or {}).get("network") == digest
    return load_file(kept) if same else {}


def _write(kept: Path, known: dict[str, Tensor], digest: str) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(".tmp")
    save_file(known, temporary, {"network": digest})
    temporary.replace(kept)


def fit_head(features: Tensor, labels: Tensor, config: ProbeConfig, seed: int) -> PooledHead:
    """Train one head on pooled features (n, f) and labels (n,)."""
    torch.manual_seed(seed)
    head = PooledHead(features.shape[1], config.hidden, config.strongest)
    head.mean.copy_(features.mean(0))
    head.spread.copy_(features.std(0).clamp(min=1e-3))
    optimizer = torch.optim.AdamW(head.parameters(), config.rate, weight_decay=config.weight_decay)
    for _ in range(config.epochs):
        for batch in torch.split(torch.randperm(len(features)), config.batch):
            loss = binary_cross_entropy_with_logits(head.judge(features[batch]), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return head.eval()


def mean_of(heads: Sequence[PooledHead]) -> PooledHead:
    """Put heads of the same features side by side: one head whose logit is the mean of theirs."""
    first = heads[0]
    joint = PooledHead(first.inner.in_features, sum(head.inner.out_features for head in heads), first.strongest)
    with torch.no_grad():
        joint.mean.copy_(first.mean)
        joint.spread.copy_(first.spread)
        joint.inner.weight.copy_(torch.cat([head.inner.weight for head in heads]))
        joint.inner.bias.copy_(torch.cat([head.inner.bias for head in heads]))
        joint.outer.weight.copy_(torch.cat([head.outer.weight for head in heads], dim=1) / len(heads))
        joint.outer.bias.copy_(torch.stack([head.outer.bias for head in heads]).mean(0))
    return joint.eval()


def fit(features: Tensor, labels: Tensor, config: ProbeConfig) -> list[PooledHead]:
    """Train the heads, each from its own seed; `mean_of` joins them."""
    return [fit_head(features, labels, config, config.seed + number) for number in range(config.heads)]


def classifier_of(frozen: Frozen, head: PooledHead) -> PooledClassifier:
    """Put a fitted head on the frozen network's fifth block."""
    classifier = PooledClassifier(frozen.width, head.inner.out_features, head.strongest)
    classifier.block5.load_state_dict(frozen.block5.state_dict())
    classifier.head.load_state_dict(head.state_dict())
    return classifier.eval()


def labels_of(looks: Sequence[ProbeLook]) -> Tensor:
    """Return 1 for a fractured image, 0 for another: float32 (n,)."""
    return torch.tensor([float(look.radiograph.fractured) for look in looks])


def some_of(radiographs: Sequence[Radiograph], normals: float | None, seed: int) -> list[Radiograph]:
    """Return all fractured images and so many normal ones for each, drawn by chance; all if `normals` is None."""
    fractured = sum(item.fractured for item in radiographs)
    normal = [item.name for item in radiographs if not item.fractured]
    wanted = len(normal) if normals is None else min(len(normal), round(normals * fractured))
    drawn = set(np.random.default_rng(seed).permutation(normal)[:wanted])
    return [item for item in radiographs if item.fractured or item.name in drawn]


def looks_at(radiographs: Sequence[Radiograph], sides: Sequence[bool] = (False,)) -> list[ProbeLook]:
    """List the looks at images: as they are (False) and mirrored (True), as far as asked for."""
    return [ProbeLook(item, side) for side in sides for item in radiographs]
