"""How the classifier learns: network, losses, rates from block to block, one step."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from models.classifier import CLASSIFIERS, Classifier, ClassifierOutput, PooledClassifier, PooledMapClassifier, pool
from models.preprocess import Preprocessing, normalise
from models.vgg import VGG16Trunk, map_channels
from training.bundle.parts import Design, read_part
from training.data.chips import ImageCache
from training.data.dataset import BODY_PARTS, Radiograph
from training.data.samples import STRIDE, TrainingSample, body_parts_of, by_shape, padded, targets_of, workers_for
from training.errors import expecting, require_finite
from training.hardware import Hardware
from training.runs import rate_at

FloatArray = NDArray[np.float32]
# torchvision's vgg16().features: the index of each block's first convolution.
BLOCK_STARTS = {1: 0, 2: 5, 3: 10, 4: 17, 5: 24}
POOLED_MAP = "vgg16_pooled_map"
# One cell in five hundred lies in a box; the others' mean is scaled up so that false alarms are felt.
OUTSIDE = 20.0


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the second stage learns; a rate of None is the optimizer's usual one."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    unfreeze_from_block: int = 4
    rate: float | None = None  # of what starts from chance
    block_rate: float | None = None  # of block 5
    block_decay: float = 0.5  # from a block to the one below
    fitted: float = 0.2  # of the fitted head, as a share of `rate`
    weight_decay: float = 0.01
    location: float = 1.0  # weight of the location map's loss
    auxiliary: float = 0.0  # weight of the body parts' loss

    @property
    def rates(self) -> tuple[float, float]:
        """Return the rates of fresh layers and of block 5."""
        usual = (1e-2, 1e-3) if self.optimizer == "sgd" else (5e-4, 3e-5)
        return self.rate or usual[0], self.block_rate or usual[1]


class TrainableClassifier(nn.Module):
    """Trunk and classifier together as they are trained; what names body parts stays behind when they are exported."""

    def __init__(self, trunk: VGG16Trunk, classifier: Classifier[Any], design: Design) -> None:
        super().__init__()
        self.trunk, self.classifier, self.design = trunk, classifier, design
        features = 2 * map_channels(design.width)
        self.body_parts = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, len(BODY_PARTS)))

    def forward(self, images: Tensor) -> Tensor:
        """Return block 5's map of images (n, 3, rows, columns)."""
        maps: Tensor = self.classifier.block5(self.trunk(images))
        return maps

    def block(self, number: int) -> list[nn.Parameter]:
        """Return the parameters of one of VGG16's blocks."""
        stop = BLOCK_STARTS.get(number + 1, 31)
        return [parameter for index, parameter in self._layers() if BLOCK_STARTS[number] <= index < stop]

    def _layers(self) -> Iterator[tuple[int, nn.Parameter]]:
        for module in (self.trunk, self.classifier.block5):
            for name, parameter in module.named_parameters():
                yield int(re.findall(r"\d+", name)[0]), parameter


def pooled_map_on(start: PooledClassifier, trunk: VGG16Trunk, design: Design, share: float) -> TrainableClassifier:
    """Begin with a fitted pooled classifier and a location map that says nothing yet.

    `share` is that of fractured images among those the head was fitted on. Fine-tuning shows both classes alike, so
    the logit is moved by that much at once instead of by a thousand small steps.
    """
    hidden, strongest = start.head.inner.out_features, start.head.strongest
    classifier = PooledMapClassifier(design.width, hidden, strongest=strongest)
    classifier.block5.load_state_dict(start.block5.state_dict())
    classifier.head.pooled.load_state_dict(start.head.state_dict())
    with torch.no_grad():
        classifier.head.pooled.outer.bias.sub_(float(np.log(share / (1 - share))))
    map_hidden: int = classifier.head.location[0].out_channels  # type: ignore[assignment]
    options: dict[str, int | float] = {"hidden": hidden, "map_hidden": map_hidden, "strongest": strongest}
    return TrainableClassifier(trunk, classifier, replace(design, architecture=POOLED_MAP, options=options))


def read_learner(folder: Path, preprocessing: Preprocessing, share: float) -> TrainableClassifier:
    """Begin with the classifier of an earlier run or of a bundle, at the input of this run; see `pooled_map_on`."""
    with expecting("a classifier to start from", folder):
        part = read_part(folder, "classifier").without_unlikeness()
        width = part.design.width
        trunk = VGG16Trunk(width)
        trunk.load_state_dict(part.trunk)
        classifier = CLASSIFIERS[part.design.architecture](width=width, **part.design.options)
        classifier.load_state_dict(part.network)
    design = replace(part.design, preprocessing=preprocessing)
    if isinstance(classifier, PooledClassifier):
        return pooled_map_on(classifier, trunk, design, share)
    return TrainableClassifier(trunk, classifier, design)


def optimizer_of(model: TrainableClassifier, tuning: Tuning, thaw: int) -> torch.optim.Optimizer:
    """Give each layer its rate: fresh ones the full one, the fitted head less, and block after block less again.

    VGG16's blocks stay as they are until step `thaw`, when what stands on them has found its feet; those below
    `unfreeze_from_block` stay for good.
    """
    model.requires_grad_(False)
    fitted = list(model.classifier.head.pooled.parameters())
    known = {id(parameter) for parameter in fitted}
    heads = [*model.classifier.head.parameters(), *model.body_parts.parameters()]
    rate, block_rate = tuning.rates
    groups = [
        {"params": [parameter for parameter in heads if id(parameter) not in known], "base": rate, "start": 0},
        {"params": fitted, "base": rate * tuning.fitted, "start": 0},
    ]
    for number in range(5, tuning.unfreeze_from_block - 1, -1):
        base = block_rate * tuning.block_decay ** (5 - number)
        groups.append({"params": model.block(number), "base": base, "start": thaw})
    if tuning.optimizer == "sgd":
        # AdamW scales its decay by the rate alone, SGD adds it to gradients: a hundredth is felt as much.
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, weight_decay=tuning.weight_decay / 100)
    if tuning.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate)
    return torch.optim.AdamW(groups, lr=rate, weight_decay=tuning.weight_decay)


def set_rates(optimizer: torch.optim.Optimizer, step: int, total: int, warmup: int) -> None:
    """Set the rates of step 0, 1 .. total - 1; a group that has not begun yet is frozen."""
    for group in optimizer.param_groups:
        begun = step - group["start"]
        for parameter in group["params"]:
            parameter.requires_grad_(begun >= 0)
        group["lr"] = group["base"] * rate_at(max(0, begun), total - group["start"], warmup)


def look(model: TrainableClassifier, images: Tensor, on: Hardware) -> tuple[ClassifierOutput, Tensor]:
    """Return the classifier's output and the body parts' logits (n, 5) of images (n, 3, rows, columns).

    As in the product, the convolutions run in the hardware's type and the heads in float32.
    """
    with on.autocast():
        maps = model(on.images(images))
    maps = maps.float()
    return model.classifier.head(maps), model.body_parts(pool(maps))


@torch.inference_mode()
def score(
    model: TrainableClassifier, radiographs: Sequence[Radiograph], image_cache: ImageCache, on: Hardware
) -> tuple[NDArray[np.float64], list[bool]]:
    """Run over whole images as the product does, one at a time.

    Returns
    -------
    tuple
        Uncalibrated logits (n,); for each image with boxes whether the location map's peak lies in one, to a cell.
    """
    logits, pointed = [], []
    with ThreadPoolExecutor(workers_for(on.device.type)) as threads:
        prepared = threads.map(image_cache.get, radiographs)
        for image in tqdm(prepared, total=len(radiographs), desc="valid", unit="image", leave=False, mininterval=5):
            output, _ = look(model, torch.from_numpy(normalise(padded(image), model.trunk.normalisation))[None], on)
            logits.append(float(output.logits[0]))
            if len(image.boxes_xyxy) and output.location_logits is not None:
                pointed.append(points_at(output.location_logits[0].cpu().numpy(), image.boxes_xyxy))
    return np.array(logits, dtype=np.float64), pointed


def points_at(location: FloatArray, boxes_xyxy: FloatArray) -> bool:
    """Say whether the highest cell of a map (rows, columns) touches a box (n, 4, canvas pixels)."""
    row, column = np.unravel_index(int(location.argmax()), location.shape)
    x, y = int(column) * STRIDE, int(row) * STRIDE
    x1, y1, x2, y2 = boxes_xyxy.T
    return bool(((x < x2) & (x + STRIDE > x1) & (y < y2) & (y + STRIDE > y1)).any())


def losses_of(output: ClassifierOutput, parts: Tensor, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
    """Return the sums over samples of one shape of three losses: image, location map, body parts."""
    device = output.logits.device
    labels = torch.tensor([float(sample.fractured) for sample in samples], device=device)
    body = binary_cross_entropy_with_logits(parts, body_parts_of(samples).to(device), reduction="none").mean(1)
    losses = {
        "loss_image": binary_cross_entropy_with_logits(output.logits, labels, reduction="sum"),
        "loss_body_parts": body.sum(),
    }
    if output.location_logits is not None:
        losses["loss_location"] = location_loss(output.location_logits, samples)
    return losses


def location_loss(location: Tensor, samples: Sequence[TrainingSample]) -> Tensor:
    """Return the cross-entropy of maps (n, rows, columns), cells in boxes and others averaged apart, summed over n."""
    pairs = targets_of(samples, int(location.shape[1]), int(location.shape[2]))
    target, weight = (tensor.to(location.device) for tensor in pairs)
    cells = binary_cross_entropy_with_logits(location, target, reduction="none") * weight
    inside = (cells * target).sum((1, 2)) / target.sum((1, 2)).clamp(min=1)
    outside = OUTSIDE * (cells * (1 - target)).mean((1, 2))
    return 0.5 * (inside + outside).sum()


def learn_from(
    samples: Sequence[TrainingSample],
    model: TrainableClassifier,
    optimizer: torch.optim.Optimizer,
    tuning: Tuning,
    on: Hardware,
) -> dict[str, float]:
    """Take one step; returns each loss, a mean over the batch."""
    weights = {"loss_image": 1.0, "loss_location": tuning.location, "loss_body_parts": tuning.auxiliary}
    means: dict[str, float] = defaultdict(float)
    optimizer.zero_grad(set_to_none=True)
    for group in by_shape(samples):
        images = torch.from_numpy(np.stack([normalise(sample.pixels, model.trunk.normalisation) for sample in group]))
        losses = losses_of(*look(model, images, on), group)
        wanted = {name: loss / len(samples) for name, loss in losses.items() if weights[name] > 0}
        torch.stack([weights[name] * loss for name, loss in wanted.items()]).sum().backward()  # type: ignore[no-untyped-call]
        for name, loss in wanted.items():
            means[name] += float(loss.detach())
    require_finite(means)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return dict(means)
