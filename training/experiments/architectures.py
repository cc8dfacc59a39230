"""Train another network by its name, to compare it with what bonewatch ships.

    python -m training.experiments.architectures list
    python -m training.experiments.architectures train --name resnet50 --task classify --data DATA --run FOLDER

Classifiers are timm's, detectors torchvision's. They start from chance, or from what fits of a safetensors file with
the library's names (`--weights`), and take the options of `training.detector.train`.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad
from torchvision.models import detection, get_model, list_models

from models.trunk import Trunk
from training.bundle.parts import Design
from training.detector.options import DetectorConfig, read_options
from training.detector.start import Detector
from training.detector.train import DetectorTraining, detect, figures_of, material_of
from training.errors import CannotTrain, ending_in_words, expecting
from training.evaluate.metrics import auc
from training.hardware import Hardware
from training.loop import Places, record_of
from training.runs import save_weights

NAMES = {"classify": timm.list_models(), "detect": list_models(detection, exclude=["mask*", "key*"])}
BODIES = ("", "backbone.body.", "backbone.")  # where a detector keeps its backbone


class Same(Trunk):
    """No layer: the library's network has them all."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the images."""
        return images


class LibraryNetwork(nn.Module):
    """A library's network, called as `models.detector.FasterRCNNDetector` is; a classifier's box is the whole image."""

    def __init__(self, name: str, task: str, side: int) -> None:
        super().__init__()
        self.task, self.side, self.deeper = task, side, nn.Identity()
        if task == "classify":
            fixed = timm.get_pretrained_cfg(name).fixed_input_size
            self.network = timm.create_model(name, num_classes=1, **({"img_size": side} if fixed else {}))
        else:
            size = {} if name.startswith("ssd") else {"min_size": side, "max_size": side}  # SSD has its own
            plain = {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0), "weights_backbone": None}
            self.network = get_model(name, weights=None, num_classes=2, **plain, **size)

    def forward(self, images: Tensor, sizes: Any, targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Return detections, or the losses in training."""
        if self.task == "detect":
            said = self.network(list(images), targets)
            losses = said if targets is not None else {}
            return said if targets is None else [], {f"loss_{key.removeprefix('loss_')}": losses[key] for key in losses}
        square = pad(images, (0, self.side - images.shape[3], 0, self.side - images.shape[2]))
        logits = self.network(square)[:, 0].float()
        if targets is not None:
            labels = logits.new_tensor([float(len(target["boxes"]) > 0) for target in targets])
            return [], {"loss_image": binary_cross_entropy_with_logits(logits, labels)}
        whole = [logits.new_tensor([[0, 0, columns, rows]]) for rows, columns in sizes]
        return [{"boxes": box, "scores": score[None]} for box, score in zip(whole, logits.sigmoid(), strict=True)], {}


def build(name: str, task: str, side: int, weights: Path | None = None) -> Detector:
    """Build a network; raises CannotTrain where its name is unknown or no tensor of the weights fits it."""
    if name not in NAMES[task]:
        raise CannotTrain(f"{name} is no network to {task}: `list` has those that are")
    asked = LibraryNetwork(name, task, side)
    if weights is not None:
        own = asked.network.state_dict()
        with expecting("weights (safetensors)", weights):
            given = {key.removeprefix("features."): tensor for key, tensor in load_file(weights).items()}
        fitting = {body + key: each for key, each in given.items() for body in BODIES if body + key in own}
        if not (fitting := {key: each for key, each in fitting.items() if own[key].shape == each.shape}):
            raise CannotTrain(f"no tensor of {weights.name} has the name and shape of a layer of {name}")
        asked.network.load_state_dict(fitting, strict=False)
    return Detector(Same(), asked)  # type: ignore[arg-type]  # called in the same way


class DetectionTraining(DetectorTraining):
    """Trains as bonewatch's own detector is; `model.safetensors` fits what `build` returns."""

    def measure(self, network: Detector) -> dict[str, Any]:
        """Return the AUC of the best box's score and, of a detector, the figures of boxes."""
        images = [item for block in self.blocks.values() for item in block]
        found = detect(network, images, self.config, self.on)
        area = auc([item.fractured for item in images], [image.scores.max(initial=0.0) for image in found])
        return {"auc": area, **(figures_of(found) if self.figure == "map50" else {})}

    def keep(self, network: Detector) -> None:
        """Write all weights."""
        save_weights(network, self.record.folder / "model.safetensors")


class ClassificationTraining(DetectionTraining):
    """The same, chosen by the AUC."""

    figure = "auc"


def training_of(name: str, task: str, places: Places, config: DetectorConfig) -> DetectionTraining:
    """Build the training of a network on a collection, or what is left of it."""
    if places.start or config.backbone or config.stages > 1:
        raise CannotTrain("--start, --backbone and --stages are for bonewatch's own detector")
    on, config = Hardware.repeatable(places.device), replace(config, chip=config.longest_side, negatives=0.5)
    torch.manual_seed(config.seed)
    start = build(name, task, config.longest_side, places.weights), Design(task, name, config.preprocessing, {})
    record = record_of(places, config, on, f"{name} to {task}")
    kind = DetectionTraining if task == "detect" else ClassificationTraining
    return kind(record, config, on, start, material_of(places, config))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("list", "train"))
    parser.add_argument("--name")
    parser.add_argument("--task", choices=NAMES)
    given, words = parser.parse_known_args()
    if given.command == "list":
        print(*(f"{task}: {', '.join(names)}" for task, names in NAMES.items()), sep="\n")
        return
    if not given.name or not given.task:
        parser.error("train needs --name and --task")
    with ending_in_words():
        training_of(given.name, given.task, *read_options(__doc__, words)).run()


if __name__ == "__main__":
    main()
