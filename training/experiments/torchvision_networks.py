"""torchvision's networks by name, fitted to radiographs: grey in, one logit or boxes of one class out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model, list_models

from models.preprocess import IMAGENET
from training.errors import CannotTrain, expecting
from training.runs import save_weights

Task = Literal["classify", "detect"]
MODULES = {"classify": torchvision.models, "detect": torchvision.models.detection}
# These answer with more than one logit, with masks or with key points, or take one size of image only.
OTHERWISE = frozenset(
    (
        "googlenet",
        "inception_v3",
        "maxvit_t",
        "keypointrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn_v2",
    )
)
# These scale what they get to the size in their name.
FIXED_SIZE = frozenset(("ssd300_vgg16", "ssdlite320_mobilenet_v3_large"))
CLASSES = 2  # background, fracture
# Where a detector of torchvision keeps its backbone's layers.
BACKBONES = ("", "backbone.body.", "backbone.")
NETWORK = "network."
MODEL_FILE, WEIGHTS_FILE = "model.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class Architecture:
    """A name in torchvision's registry, what it is for, and the side of the square images that it gets, in pixels."""

    name: str
    task: Task
    side: int = 512


def names(task: Task) -> list[str]:
    """Return the names that can be trained for a task."""
    return [name for name in list_models(module=MODULES[task]) if name not in OTHERWISE]


class GreyClassifier(nn.Module):
    """One of torchvision's classification networks with one logit, on grey images."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(IMAGENET.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET.std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Take images (n, 1, side, side) in 0..1; return logits (n,)."""
        logits: Tensor = self.network((images.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return logits[:, 0].float()


class GreyDetector(nn.Module):
    """One of torchvision's detectors with the class 'fracture', on grey images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Take images (n, 1, side, side) in 0..1 and, in training, `boxes` (k, 4) xyxy and `labels` (k,) of each.

        Returns the losses by name in training, else a dictionary of `boxes`, `scores`, `labels` for each image.
        """
        return self.network(list(images.expand(-1, 3, -1, -1)), targets)


def build(architecture: Architecture, weights: Path | None = None) -> nn.Module:
    """Build a network from chance or on a backbone's weights.

    Raises
    ------
    CannotTrain
        The name is not one of `names`, it cannot be built for that side, or no tensor of the file fits it.
    """
    name, task, side = architecture.name, architecture.task, architecture.side
    if name not in names(task):
        raise CannotTrain(f"{name} is no network to {task}; known: {', '.join(names(task))}")
    options: dict[str, Any] = {"weights": None}
    if task == "classify":
        options |= {"num_classes": 1} | ({"image_size": side} if name.startswith("vit_") else {})
    else:
        options |= {"weights_backbone": None, "num_classes": CLASSES}
        options |= {} if name in FIXED_SIZE else {"min_size": side, "max_size": side}
    try:
        network = get_model(name, **options)
    except AssertionError as error:  # a ViT's side is so many patches
        raise CannotTrain(f"{name} cannot be built for a side of {side} pixels, choose another: {error}") from error
    model = GreyClassifier(network) if task == "classify" else GreyDetector(network)
    if weights is not None:
        print(f"{load_backbone(model, weights)} tensors of {weights.name} fit {name}")
    return model


def load_backbone(model: nn.Module, weights: Path) -> int:
    """Take over every tensor whose name and shape fit a layer of the model; returns how many did.

    Raises
    ------
    CannotTrain
        None did.
    """
    own = model.state_dict()
    taken: dict[str, Tensor] = {}
    with expecting("weights (safetensors)", weights):
        tensors = load_file(weights)
    for name, tensor in tensors.items():
        spellings = (name, name.removeprefix("features."))
        places = [f"{NETWORK}{prefix}{spelling}" for prefix in BACKBONES for spelling in spellings]
        place = next((p for p in places if p in own and own[p].shape == tensor.shape), None)
        if place is not None:
            taken[place] = tensor.to(own[place].dtype)
    if not taken:
        raise CannotTrain(f"no tensor of {weights.name} has the name and shape of a layer of this network")
    model.load_state_dict(taken, strict=False)
    return len(taken)


def save_model(model: nn.Module, architecture: Architecture, folder: Path) -> None:
    """Write weights, and what builds the network that they fit."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / WEIGHTS_FILE)
    (folder / MODEL_FILE).write_text(json.dumps({**asdict(architecture), "weights": WEIGHTS_FILE}, indent=1) + "\n")


def load_model(folder: Path) -> tuple[nn.Module, Architecture]:
    """Build the network of a run's folder again, float32 on the CPU, in evaluation mode."""
    content = json.loads((folder / MODEL_FILE).read_text())
    architecture = Architecture(content["name"], content["task"], content["side"])
    model = build(architecture)
    model.load_state_dict(load_file(folder / content["weights"]))
    return model.eval().requires_grad_(False), architecture
