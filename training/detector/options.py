"""What can be chosen for a training of the detector, and its command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from models.box_heads import STAGES
from models.preprocess import Preprocessing
from training.backbones import BACKBONES
from training.hardware import Hardware
from training.loop import LoopConfig, Places
from training.runs import SCHEDULES

BACKBONE = "mobilenet_v2"
# What a step of chips takes well on a usual device.
BATCH = {"cuda": 16, "cpu": 8}


@dataclass(frozen=True)
class DetectorConfig(LoopConfig):
    """What was chosen for a run."""

    backbone: str | None = None  # None: that of the start, or MobileNetV2
    longest_side: int = 704  # of the images that judge it, and of its preprocessing
    sides: tuple[int, int] | None = None  # longest sides that chips are cut at; None: `longest_side` alone
    chip: int = 320
    batch: int = 8
    negatives: float = 0.3  # share of chips from normal images
    elsewhere: float = 0.05  # share of chips from anywhere in a fractured image
    pasted: float = 0.0  # share of chips that show a fracture pasted onto a normal image
    rate: float = 5e-4
    backbone_rate: float = 2e-4
    weight_decay: float = 0.05
    stages: int = 1  # of box heads
    last_stage_only: bool = False  # everything below stays as it is
    stretch: tuple[float, float] = (0.5, 99.5)  # percentiles of the grey values that become 0 and 1

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how images are prepared for this network."""
        return Preprocessing(self.longest_side, stretch_percentiles=self.stretch)


def read_options(about: str | None, words: Sequence[str] | None = None) -> tuple[Places, DetectorConfig]:
    """Read the command line; `words` are its words, None those that the program was called with.

    Raises
    ------
    CannotTrain
        There is no such device.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--weights", type=Path, help="the backbone's ImageNet weights (safetensors); not with --start")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint, weights and run.json")
    parser.add_argument(
        "--start",
        type=Path,
        action="append",
        default=[],
        help="folder of an earlier run or bundle to go on from, its options kept; the weights of several are averaged",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; a GPU where there is one if not given")
    parser.add_argument("--backbone", choices=sorted(BACKBONES), help=f"the start's, or {BACKBONE} if not given")
    parser.add_argument("--batch", type=int, help="chips a step; by the device if not given")
    for name in ("longest_side", "chip", "steps", "warmup", "seed", "evaluate_every"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(DetectorConfig, name))
    for name in ("negatives", "elsewhere", "pasted", "rate", "backbone_rate", "average", "checkpoint_minutes"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(DetectorConfig, name))
    parser.add_argument(
        "--sides", type=int, nargs=2, metavar=("LOW", "HIGH"), help="cut each chip at a longest side drawn from these"
    )
    parser.add_argument(
        "--schedule",
        choices=sorted(SCHEDULES),
        default=DetectorConfig.schedule,
        help="of the rates after the warm-up: `cosine` falls to a twentieth, `constant` stays, to be ended at any time",
    )
    parser.add_argument("--stages", type=int, choices=range(1, len(STAGES) + 1), default=DetectorConfig.stages)
    parser.add_argument(
        "--last-stage-only", action="store_true", help="learn the last stage on an earlier run's detector"
    )
    parser.add_argument("--stretch", type=float, nargs=2, metavar=("LOW", "HIGH"), default=DetectorConfig.stretch)
    given = vars(parser.parse_args(words))
    given |= {name: tuple(given[name]) for name in ("stretch", "start")}
    given["sides"] = given["sides"] and tuple(given["sides"])
    if given["last_stage_only"] and not given["start"]:
        parser.error("--last-stage-only needs --start, the detector that the stage is learnt on")
    given["batch"] = given["batch"] or BATCH[Hardware.repeatable(given["device"]).device.type]
    places = Places(**{entry.name: given.pop(entry.name) for entry in fields(Places)})
    return places, replace(DetectorConfig(), **given)
