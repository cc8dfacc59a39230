"""What can be chosen for a training of the detector, and its command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from models.box_heads import STAGES
from models.preprocess import Preprocessing
from training.backbones import BACKBONES
from training.hardware import Hardware
from training.runs import SCHEDULES

BACKBONE = "mobilenet_v2"
# What a step of chips takes well on a usual device.
BATCH = {"cuda": 16, "cpu": 8}


@dataclass(frozen=True)
class Config:
    """What was chosen for a run."""

    backbone: str | None = None  # None: that of the start, or MobileNetV2
    longest_side: int = 704  # of the images that judge it, and of its preprocessing
    sides: tuple[int, int] | None = None  # longest sides that chips are cut at; None: `longest_side` alone
    chip: int = 320
    steps: int = 4000
    batch: int = 8
    negatives: float = 0.3  # share of chips from normal images
    elsewhere: float = 0.05  # share of chips from anywhere in a fractured image
    pasted: float = 0.0  # share of chips that show a fracture pasted onto a normal image
    rate: float = 5e-4
    backbone_rate: float = 2e-4
    weight_decay: float = 0.05
    warmup: int = 100
    schedule: str = "cosine"  # of the rates; see `training.runs.SCHEDULES`
    average: float = 0.998
    stages: int = 1  # of box heads
    last_stage_only: bool = False  # everything below stays as it is
    stretch: tuple[float, float] = (0.5, 99.5)  # percentiles of the grey values that become 0 and 1
    evaluate_every: int = 500
    checkpoint_minutes: float = 10.0
    seed: int = 7

    def goes_on_from(self, earlier: Mapping[str, Any]) -> bool:
        """Say whether a checkpoint of a run with these options may be gone on from: when it judges and saves is free.

        So is the number of steps where the rates do not depend on it. An option that the checkpoint does not know came
        later: the run was as if by default.
        """
        free = {"evaluate_every", "checkpoint_minutes"} | ({"steps"} if self.schedule == "constant" else set())
        mine = asdict(self)
        defaults = {entry.name: entry.default for entry in fields(self)}
        return all(mine[name] == earlier.get(name, defaults[name]) for name in mine.keys() - free)

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how images are prepared for this network."""
        return Preprocessing(self.longest_side, stretch_percentiles=self.stretch)


@dataclass(frozen=True)
class Places:
    """Where a run reads, writes and computes.

    `start` are the folders of earlier runs to go on from, their weights averaged.
    """

    data: Path
    run: Path
    weights: Path | None = None
    start: tuple[Path, ...] = ()
    device: str = "auto"


def read_options(about: str | None, words: Sequence[str] | None = None) -> tuple[Places, Config]:
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
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Config, name))
    for name in ("negatives", "elsewhere", "pasted", "rate", "backbone_rate", "average", "checkpoint_minutes"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(Config, name))
    parser.add_argument(
        "--sides", type=int, nargs=2, metavar=("LOW", "HIGH"), help="cut each chip at a longest side drawn from these"
    )
    parser.add_argument(
        "--schedule",
        choices=sorted(SCHEDULES),
        default=Config.schedule,
        help="of the rates after the warm-up: `cosine` falls to a twentieth, `constant` stays, to be ended at any time",
    )
    parser.add_argument("--stages", type=int, choices=range(1, len(STAGES) + 1), default=Config.stages)
    parser.add_argument(
        "--last-stage-only", action="store_true", help="learn the last stage on an earlier run's detector"
    )
    parser.add_argument("--stretch", type=float, nargs=2, metavar=("LOW", "HIGH"), default=Config.stretch)
    given = vars(parser.parse_args(words))
    given |= {name: tuple(given[name]) for name in ("stretch", "start")}
    given["sides"] = given["sides"] and tuple(given["sides"])
    if given["last_stage_only"] and not given["start"]:
        parser.error("--last-stage-only needs --start, the detector that the stage is learnt on")
    given["batch"] = given["batch"] or BATCH[Hardware.repeatable(given["device"]).device.type]
    places = Places(**{entry.name: given.pop(entry.name) for entry in fields(Places)})
    return places, replace(Config(), **given)
