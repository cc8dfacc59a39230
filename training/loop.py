"""The loop of every training: steps, evaluations, the best weights, checkpoints, and going on after an interruption."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from training.errors import CannotTrain, require_finite
from training.evaluate.curves import write_curves
from training.hardware import Hardware
from training.runs import SCHEDULES, Average, Run, load_checkpoint, origin_of, save_checkpoint, stop_asked

Network = TypeVar("Network", bound=nn.Module)
ALWAYS_FREE = frozenset(("evaluate_every", "checkpoint_minutes"))


@dataclass(frozen=True)
class Places:
    """Where a run reads, writes and computes.

    `start` are the folders of earlier runs or bundles to go on from, their weights averaged.
    """

    data: Path
    run: Path
    weights: Path | None = None
    start: tuple[Path, ...] = ()
    device: str = "auto"


@dataclass(frozen=True)
class LoopConfig:
    """What the loop itself asks of a run's configuration; a training adds what it needs."""

    steps: int = 4000
    evaluate_every: int = 500  # steps
    checkpoint_minutes: float = 10.0
    schedule: str = "cosine"  # of the rates; see `training.runs.SCHEDULES`
    warmup: int = 100  # steps in which the rates rise
    average: float = 0.998  # decay of the averaged weights
    seed: int = 7

    def goes_on_from(self, earlier: Mapping[str, Any]) -> bool:
        """Say whether a checkpoint of a run with these options may be gone on from.

        When it is evaluated and saved is free; so is the number of steps where the rates do not depend on it. An option
        that the checkpoint does not know came later: the run was as if by default.
        """
        mine, usual = asdict(self), asdict(type(self)())
        free = ALWAYS_FREE | ({"steps"} if self.schedule == "constant" else set())
        return all(mine[name] == earlier.get(name, usual[name]) for name in mine.keys() - free)


def descend(network: nn.Module, optimizer: torch.optim.Optimizer, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Take one step against the sum of the losses; return them as numbers."""
    loss = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    values = {name: float(value.detach()) for name, value in losses.items()}
    require_finite(values)
    return values


def record_of(places: Places, config: LoopConfig, on: Hardware, title: str) -> Run:
    """Begin the record of a run on a collection."""
    settings, origin = {**asdict(config), **on.describe()}, origin_of(places.weights, places.start)
    return Run(places.run, settings, places.data, title=title, origin=origin)


class Training(ABC, Generic[Network]):
    """A run's state between two steps: everything that an interrupted run needs to go on as if nothing had been.

    `part` names the network in a checkpoint; `figure` is the one by which the best evaluation is chosen.
    """

    part: ClassVar[str]
    figure: ClassVar[str]
    evaluates_first: ClassVar[bool] = False  # before the first step, where the start is already of use

    def __init__(
        self, record: Run, config: LoopConfig, on: Hardware, network: Network, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take the network and what moves it, as they are or as a checkpoint in the record's folder has them.

        Raises
        ------
        CannotTrain
            The checkpoint is of another configuration, or of a run that began with other weights.
        """
        self.record, self.config, self.on = record, config, on
        self.network, self.optimizer = network, optimizer
        self.averaged = Average(network, config.average)
        self.step = 0
        self.losses: list[dict[str, float]] = []
        if state := load_checkpoint(self._checkpoint):
            other = None if config.goes_on_from(state["config"]) else "of another configuration"
            if state.get("started_from", record.origin) != record.origin:
                other = other or "that began with other weights"
            if other:
                raise CannotTrain(f"{record.folder} holds a run {other}: name another folder")
            for name, module in self._modules().items():
                module.load_state_dict(state[name])
            self.step, self.losses = state["step"], state["losses"]
            self.record.resume(state["history"], state.get("seconds"))
            self.record.metrics = state.get("metrics", {})  # older checkpoints have none

    @abstractmethod
    def batches(self) -> Generator[Any, None, None]:
        """Yield a batch for each step that is left; seed and step alone decide what is in it."""

    @abstractmethod
    def learn_from(self, batch: Any) -> dict[str, float]:
        """Take one step of the optimizer; return the losses."""

    @abstractmethod
    def measure(self, network: Network) -> dict[str, Any]:
        """Return the figures of the averaged weights, `figure` among them."""

    @abstractmethod
    def keep(self, network: Network) -> None:
        """Write the averaged weights of the best evaluation so far."""

    def set_rates(self) -> None:
        """Set the rates of the step that is about to be taken."""
        factor = SCHEDULES[self.config.schedule](self.step, self.config.steps, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor

    @property
    def done(self) -> bool:
        """Say whether all steps were taken."""
        return self.step >= self.config.steps

    @property
    def best(self) -> float:
        """The best evaluation's figure, -1 before the first."""
        return max((entry[self.figure] for entry in self.record.history), default=-1.0)

    def learn(self, batch: Any) -> float:
        """Take one step; returns its loss."""
        self.step += 1
        self.set_rates()
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)  # dropout and the samplers of boxes draw from it
        self.losses.append(self.learn_from(batch))
        self.averaged.update(self.network, self.step)
        return sum(self.losses[-1].values())

    def evaluate(self) -> None:
        """Measure the averaged weights and keep them if they are the best so far."""
        before, figures = self.best, self.measure(self.averaged.module)
        means = {name: float(np.mean([loss[name] for loss in self.losses])) for name in (self.losses or [{}])[0]}
        self.losses = []
        self.record.record(step=self.step, **means, **figures)
        write_curves(self.record.folder)
        if figures[self.figure] > before:
            self.keep(self.averaged.module)
            self.record.finish(step=self.step, **figures)

    def save(self) -> None:
        """Write the checkpoint."""
        kept = {
            "step": self.step,
            "losses": self.losses,
            "history": self.record.history,
            "seconds": self.record.seconds,
            "metrics": self.record.metrics,
            "started_from": self.record.origin,
            "config": asdict(self.config),
        }
        states = {name: module.state_dict() for name, module in self._modules().items()}
        save_checkpoint(self._checkpoint, {**states, **kept})

    def run(self) -> bool:
        """Take the steps that are left; returns False where it was asked to stop (SIGTERM, Ctrl-C) before the last."""
        self.record.folder.mkdir(parents=True, exist_ok=True)
        if self.evaluates_first and not self.record.history:
            self.evaluate()
            self.save()
        due = self._next_checkpoint()
        bar = tqdm(initial=self.step, total=self.config.steps, desc=self.part, unit="step", mininterval=5)
        with stop_asked() as stop, closing(self.batches()) as batches, bar:
            while not self.done and not stop.is_set():
                bar.set_postfix({"loss": f"{self.learn(next(batches)):.3f}"}, refresh=False)
                bar.update()
                if evaluating := self.step == self.config.steps or self.step % self.config.evaluate_every == 0:
                    self.evaluate()
                if evaluating or stop.is_set() or time.monotonic() >= due:
                    self.save()
                    due = self._next_checkpoint()
        return self.done

    def _next_checkpoint(self) -> float:
        return time.monotonic() + 60 * self.config.checkpoint_minutes

    @property
    def _checkpoint(self) -> Path:
        return self.record.folder / "checkpoint.pt"

    def _modules(self) -> dict[str, Any]:
        return {self.part: self.network, "average": self.averaged.module, "optimizer": self.optimizer}
