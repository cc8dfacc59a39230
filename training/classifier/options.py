"""What can be chosen for a training of the classifier, and its command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from models.preprocess import CANVAS_MULTIPLE, Preprocessing
from training.classifier.fine_tuning import Tuning
from training.classifier.probe import ProbeConfig
from training.loop import LoopConfig, Places

STAGES = ("probe", "finetune", "both")


@dataclass(frozen=True)
class ClassifierConfig(LoopConfig):
    """What was chosen for a run; a batch of None is chosen by the device, steps follow from epochs and images."""

    stage: str = "both"
    longest_side: int = 384
    mirrored: bool = False  # the probe sees each image mirrored too
    normals: float | None = None  # that the probe sees for each fractured one; None: all
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    epochs: int = 12
    images_an_epoch: int | None = None  # None: as many as there are to learn from
    batch: int | None = None
    chips: int = 0
    whole: float = 0.25
    frozen_epochs: float = 1.0  # before VGG16's blocks begin to follow
    tuning: Tuning = field(default_factory=Tuning)
    average: float = 0.995
    warmup: int = 50
    patience: int = 5  # evaluations without a better AUC before the run ends
    seed: int = 11

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how images are prepared for this network."""
        return Preprocessing(self.longest_side)


OF_RUN = {
    "longest_side": (int, "pixels of the longer side"),
    "normals": (
        float,
        "normal images for each fractured one that the probe learns from (with --start: has); all if not given",
    ),
    "epochs": (int, "evaluations at the most"),
    "images_an_epoch": (int, "images between two evaluations; all of train if not given"),
    "batch": (int, "images a step; by the device if not given"),
    "chips": (int, "side of the chips in pixels; 0 shows whole images only"),
    "whole": (float, "share of whole images beside chips"),
    "frozen_epochs": (float, "epochs in which the heads learn alone"),
    "average": (float, "decay of the averaged weights"),
    "patience": (int, "evaluations without a better AUC that end the run"),
    "warmup": (int, "steps in which a rate rises"),
    "checkpoint_minutes": (float, "minutes between two checkpoints"),
    "seed": (int, "of the samples and of the layers that start from chance"),
}
OF_TUNING = {
    "rate": (float, "learning rate of the layers that start from chance; by the optimizer if not given"),
    "block_rate": (float, "learning rate of block 5; by the optimizer if not given"),
    "block_decay": (float, "factor of the rate from a block to the one below"),
    "fitted": (float, "factor of the rate for the probe's head"),
    "weight_decay": (float, "not with adam"),
    "location": (float, "weight of the location map's loss"),
    "auxiliary": (float, "weight of the body parts' loss; 0 leaves them out"),
}
OF_PROBE = {
    "heads": (int, "perceptrons that are joined"),
    "hidden": (int, "units of each"),
    "strongest": (int, "strongest cells of each channel that are pooled beside all; 1: the maximum"),
    "epochs": (int, "passes over the features"),
}


def read_options(about: str | None, words: Sequence[str] | None = None) -> tuple[Places, ClassifierConfig]:
    """Read the command line; `words` are its words, None those that the program was called with."""
    parser = _parser(about)
    given = vars(parser.parse_args(words))
    if given["chips"] % CANVAS_MULTIPLE:
        parser.error(f"--chips takes a multiple of {CANVAS_MULTIPLE}")
    if given["normals"] is not None and not 0 < given["normals"] < math.inf:
        parser.error("--normals takes a number above 0")
    if given["probe_strongest"] < 1:
        parser.error("--probe-strongest takes at least 1 cell")
    if len(given["start"]) > 1:
        parser.error("--start takes one folder")
    given["start"] = tuple(given["start"])
    places = Places(**{entry.name: given.pop(entry.name) for entry in fields(Places)})
    probe = ProbeConfig(**{name: given.pop(f"probe_{name}") for name in OF_PROBE})
    tuning = Tuning(**{name: given.pop(name) for name in ("optimizer", "unfreeze_from_block", *OF_TUNING)})
    return places, replace(ClassifierConfig(), **given, probe=probe, tuning=tuning)


def _parser(about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--weights", type=Path, help="VGG16's ImageNet features (safetensors), for the stage 'probe'")
    parser.add_argument("--run", type=Path, required=True, help="folder for features, checkpoint, weights and run.json")
    about_start = "folder of an earlier run or bundle to fine-tune, or to fit a head anew on"
    parser.add_argument("--start", type=Path, action="append", default=[], help=about_start)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; a GPU where there is one if not given")
    parser.add_argument("--stage", choices=STAGES, default="both", help="what to run (both)")
    parser.add_argument("--mirrored", action="store_true", help="the probe learns from each image mirrored too")
    parser.add_argument("--optimizer", choices=("adam", "adamw", "sgd"), default="adamw", help="(adamw)")
    parser.add_argument(
        "--unfreeze-from-block",
        type=int,
        choices=range(1, 7),
        default=4,
        help="lowest block that learns; 6: heads alone (4)",
    )
    groups = (("", OF_RUN, ClassifierConfig()), ("", OF_TUNING, Tuning()), ("probe_", OF_PROBE, ProbeConfig()))
    for prefix, options, usual in groups:
        for name, (kind, words) in options.items():
            default = getattr(usual, name)
            shown = words if default is None else f"{words} ({default})"
            option = f"--{(prefix + name).replace('_', '-')}"
            parser.add_argument(option, type=kind, default=default, metavar="N", help=shown)
    return parser
