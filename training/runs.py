"""What every training run shares: samples from the cache, checkpoints, averaged weights, one JSON file a run."""

from __future__ import annotations

import copy
import json
import math
import platform
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training.cache import Sample, plan


@dataclass(frozen=True)
class Places:
    """Where a run reads and writes.

    `start` holds an earlier run's weights to go on from; `block5` another network's file whose block 5 is the start.
    """

    data: Path
    weights: Path
    cache: Path
    run: Path
    start: Path | None = None
    block5: Path | None = None


@dataclass(frozen=True, slots=True)
class Maps:
    """One cached sample: the trunk's map (channels, rows, columns) and its boxes (n, 4) in canvas pixels."""

    sample: Sample
    maps: Tensor
    boxes: Tensor


def read_maps(cache: Path, sample: Sample) -> Maps:
    """Read one sample."""
    with safe_open(cache / f"{sample.key}.safetensors", framework="pt") as file:
        return Maps(sample, file.get_tensor("conv4").permute(2, 0, 1), file.get_tensor("boxes"))


def map_shape(cache: Path, sample: Sample) -> tuple[int, ...]:
    """Return the shape of a sample's map (rows, columns, channels) from its file's head alone."""
    with safe_open(cache / f"{sample.key}.safetensors", framework="pt") as file:
        return tuple(file.get_slice("conv4").get_shape())


def available(data: Path, cache: Path, split: str) -> list[Sample]:
    """List the samples of a split that the cache holds, in the plan's order."""
    return [
        sample
        for sample in plan(data)
        if sample.radiograph.split == split and (cache / f"{sample.key}.safetensors").exists()
    ]


Network = TypeVar("Network", bound=nn.Module)


class Average(Generic[Network]):
    """Exponential average of a module's weights: steadier than the last step's."""

    def __init__(self, module: Network, decay: float) -> None:
        self.module: Network = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after a step; the first steps count more, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)


@dataclass
class Run:
    """The record of one run, written after each evaluation so that an interrupted run has one too."""

    folder: Path
    config: dict[str, Any]
    started: float = field(default_factory=time.time)
    history: list[dict[str, Any]] = field(default_factory=list)

    def record(self, **figures: Any) -> None:
        """Add one line to the history and write `run.json`."""
        self.history.append({**figures, "seconds": round(time.time() - self.started, 1)})
        print(json.dumps(self.history[-1]), flush=True)
        content = {
            "config": self.config,
            "commit": _commit(),
            "environment": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
                "threads": torch.get_num_threads(),
            },
            "history": self.history,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "run.json").write_text(json.dumps(content, indent=1) + "\n")


def rate_at(step: int, total: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to a twentieth: a factor for the learning rates."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights, whatever the order they lie in memory."""
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that an interruption leaves the old one or the new one whole."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint of this program with tensors and plain values only; None where there is none."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def _commit() -> str:
    """Return the commit that the code stands at, or 'unknown' outside a repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    except OSError:  # no git on this machine
        return "unknown"
    return answer.stdout.strip() or "unknown"
