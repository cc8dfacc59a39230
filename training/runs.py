"""What every training run shares: checkpoints, averaged weights, one JSON file a run."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

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
        for kept, statistic in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(statistic)  # of norms: means already


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


@dataclass
class Run:
    """The record of one run, written after each evaluation so that an interrupted run has one too.

    `data` is the data folder; its labels' and boxes' hashes say what was learnt from. `origin` are those of the weights
    that the run began with (`origin_of`): names say nothing of weights once a folder is written anew.
    """

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    data: Path | None = None
    started: float = field(default_factory=time.time)
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    title: str = "A run"
    origin: dict[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = say
    # Asked at the beginning: the code that runs is that, whatever becomes of the folder meanwhile.
    commit: str = field(default_factory=lambda: commit_of(Path(__file__).parent))

    def record(self, **figures: Any) -> None:
        """Add one line to the history and write `run.json`."""
        self.history.append({**figures, "seconds": round(self.seconds, 1)})
        self.say(json.dumps(self.history[-1]))
        self.write()

    @property
    def seconds(self) -> float:
        """How long the run has lasted, without the time in which it did not run."""
        return time.time() - self.started

    def resume(self, history: list[dict[str, Any]], seconds: float | None = None) -> None:
        """Go on with an interrupted run's history; its time counts up to its last evaluation where no more is known."""
        self.history = history
        if seconds is None and history:
            seconds = history[-1]["seconds"]
        self.started -= seconds or 0.0

    def finish(self, **metrics: Any) -> None:
        """Write `run.json` with the figures that the run ends with."""
        self.metrics = metrics
        self.write()

    def as_json(self) -> dict[str, Any]:
        """Return the record: what `run.json` holds."""
        return {
            "kind": "run",
            "title": self.title,
            "config": self.config,
            "commit": self.commit,
            "data": hashes(self.data) if self.data else {},
            **({"started_from": self.origin} if self.origin else {}),
            "environment": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
                "numpy": np.__version__,
                "opencv": cv2.__version__,
                "threads": torch.get_num_threads(),
            },
            "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 1),
            "history": self.history,
            "metrics": self.metrics,
        }

    def write(self) -> None:
        """Write `run.json`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "run.json").write_text(json.dumps(self.as_json(), indent=1) + "\n")


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each label and box file of a data folder, and one over its images' names and sizes."""
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.[cj]s[vo]*"))}
    images = sorted((path.name, path.stat().st_size) for path in (folder / "images").glob("*"))
    return {**found, "images": hashlib.sha256(json.dumps(images).encode()).hexdigest()}


def origin_of(weights: Path | None, start: Sequence[Path] = ()) -> dict[str, Any]:
    """Return the SHA-256 of ImageNet's weights and of the weight files in each folder that a run starts from."""
    found: dict[str, Any] = {"weights": _digest(weights)} if weights and not start else {}
    if start:
        found["start"] = [{path.name: _digest(path) for path in sorted(each.glob("*.safetensors"))} for each in start]
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rate_at(step: int, total: int, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to a twentieth: a factor for the learning rates."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def constant_rate(step: int, _total: int, warmup: int) -> float:
    """Linear warm-up, then 1: for a run that may end at any step, its averaged weights taken or decayed by another."""
    return min(1.0, (step + 1) / warmup)


SCHEDULES = {"cosine": rate_at, "constant": constant_rate}


@contextmanager
def stop_asked() -> Iterator[threading.Event]:
    """Turn SIGTERM and Ctrl-C into a flag, so that a step ends and its checkpoint is written; a second one kills."""
    asked = threading.Event()

    def note(signal_number: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal_number, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights, whatever the order they lie in memory."""
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that an interruption leaves the old one or the new one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint of this program with tensors and plain values only; None where there is none."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def commit_of(folder: Path) -> str:
    """Return the commit that a folder's code stands at, `-dirty` behind it where tracked files differ from it.

    'unknown' outside a repository.
    """
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]  # the hash whatever is tagged
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except OSError:  # no git on this machine
        return "unknown"
    return answer.stdout.strip() or "unknown"
