"""Train the classifier: fit perceptrons on the frozen VGG16, then let boxes and labels tune its last blocks.

    python -m training.classifier.train --data DATA --weights VGG16.safetensors --run FOLDER

Stage `probe` runs VGG16, as ImageNet left it, once over the images and fits a head on what it sees; that is a whole
classifier (`vgg16_pooled`) already. Stage `finetune` starts there, or at an earlier run or bundle (`--start`): a
location map is taught by the boxes, its peaks join the image's logit, and VGG16's last blocks follow at rates that
fall from block to block. It learns from whole images, or from chips and some whole images (`--chips`). Run again, it
goes on from its checkpoint. The averaged weights of the best evaluation on valid are in the run's folder, which
`training.bundle.export` takes.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from models.classifier import PooledClassifier
from training.bundle.parts import Design, write_part
from training.classifier.fine_tuning import (
    TrainableClassifier,
    learn_from,
    optimizer_of,
    pooled_map_on,
    read_learner,
    score,
    set_rates,
)
from training.classifier.options import Config, Places, read_options
from training.classifier.probe import Frozen, classifier_of, fit, labels_of, looks_at, mean_of, pooled_features, some_of
from training.data.chips import ImageCache
from training.data.dataset import Radiograph, for_training, whole_files
from training.data.samples import BatchSampler, Mixture, TrainingSample, workers_for
from training.errors import CannotTrain, ending_in_words
from training.evaluate.curves import write_curves
from training.evaluate.metrics import auc, auc_interval
from training.hardware import Hardware
from training.runs import Average, Run, load_checkpoint, origin_of, save_checkpoint

CHECKPOINT_NAME = "checkpoint.pt"
# What a step of whole images takes well on a usual device.
BATCH = {"cuda": 32, "cpu": 8}


def probe(
    places: Places, config: Config, images: list[Radiograph], on: Hardware
) -> tuple[Frozen, PooledClassifier, list[float]]:
    """Fit the heads on images; returns frozen network, classifier, and the valid AUC of each head and of all."""
    if places.weights is None:
        raise CannotTrain("the stage 'probe' needs --weights, VGG16's ImageNet features")
    frozen = Frozen.read(places.weights, config.preprocessing, config.probe.strongest)
    images = some_of(images, config.normals, config.probe.seed)
    train = looks_at(images, (False, True) if config.mirrored else (False,))
    valid = looks_at(whole_files(places.data, "valid"))
    labels = labels_of(train)
    if not 0 < labels.sum() < len(labels):
        raise CannotTrain("training needs images of both classes")
    features = pooled_features(frozen, [*train, *valid], places.run, on)
    heads = fit(features[: len(train)], labels, config.probe)
    joint = mean_of(heads)
    with torch.no_grad():
        areas = [auc(labels_of(valid).numpy(), head.judge(features[len(train) :]).numpy()) for head in [*heads, joint]]
    return frozen, classifier_of(frozen, joint), areas


def probe_design(frozen: Frozen, classifier: PooledClassifier) -> Design:
    """Say what the first stage's classifier is."""
    head = classifier.head
    options: dict[str, int | float] = {"hidden": head.inner.out_features, "strongest": head.strongest}
    return Design("vgg16_pooled", "vgg16", frozen.preprocessing, options, frozen.width)


def begin(places: Places, config: Config, train: list[Radiograph], on: Hardware) -> TrainableClassifier:
    """Build what the second stage starts from."""
    torch.manual_seed(config.seed)
    fitted_on = some_of(train, config.normals, config.probe.seed)
    share = min(max(float(np.mean([item.fractured for item in fitted_on])), 0.01), 0.99)
    if places.start:
        return read_learner(places.start, config.preprocessing, share)
    if config.stage == "finetune":
        raise CannotTrain("the stage 'finetune' needs --start, the folder of an earlier run or of a bundle")
    frozen, classifier, _ = probe(places, config, train, on)
    torch.manual_seed(config.seed)
    return pooled_map_on(classifier, frozen.trunk, probe_design(frozen, classifier), share)


class Training:
    """A fine-tuning's state between two steps: everything that an interrupted run needs to go on."""

    def __init__(self, places: Places, config: Config, on: Hardware) -> None:
        self.places, self.on = places, on
        places.run.mkdir(parents=True, exist_ok=True)
        self.train, self.valid = for_training(places.data), whole_files(places.data, "valid")
        self.image_cache = ImageCache([*self.train, *self.valid], config.preprocessing)
        self.batch = config.batch or BATCH[on.device.type]
        self.config = replace(config, batch=self.batch)
        state = load_checkpoint(self._checkpoint)
        if state and state["config"] != asdict(self.config):
            raise CannotTrain(f"{places.run} holds a run of another configuration: name another folder")
        settings, title = {**asdict(self.config), **on.describe()}, "Classifier, fine-tuned"
        self.record = Run(places.run, settings, places.data, title=title)  # its time counts from here
        self.model = begin(places, config, self.train, on)
        origin = origin_of(*_began_with(places))
        if state and state.get("started_from", origin) != origin:
            raise CannotTrain(f"{places.run} holds a run that began with other weights: name another folder")
        self.record.origin = origin
        on.place(self.model)
        self.optimizer = optimizer_of(self.model, config.tuning, round(config.frozen_epochs * self.epoch))
        self.average = Average(self.model, config.average)
        self.step = 0
        self.losses: list[dict[str, float]] = []
        if state:
            self._resume(state)

    @property
    def _checkpoint(self) -> Path:
        return self.places.run / CHECKPOINT_NAME

    @property
    def epoch(self) -> int:
        """Count the steps between two evaluations."""
        return -(-(self.config.images_an_epoch or len(self.train)) // self.batch)

    @property
    def total(self) -> int:
        """Count the steps of the whole run."""
        return self.epoch * self.config.epochs

    @property
    def done(self) -> bool:
        """Say whether all steps were taken, or the last evaluations brought nothing better."""
        areas = [entry["auc"] for entry in self.record.history]
        stale = len(areas) - 1 - int(np.argmax(areas)) if areas else 0
        return self.step >= self.total or stale >= self.config.patience

    def sampler(self) -> BatchSampler:
        """Return who draws the samples."""
        config = self.config
        return BatchSampler(self.train, self.image_cache, Mixture(config.seed, config.chips, config.whole))

    def learn(self, samples: list[TrainingSample]) -> float:
        """Take one step; returns the image's loss."""
        set_rates(self.optimizer, self.step, self.total, self.config.tuning.warmup)
        self.step += 1
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)  # dropout draws from it
        self.model.train()
        self.losses.append(learn_from(samples, self.model, self.optimizer, self.config.tuning, self.on))
        self.average.update(self.model, self.step)
        return self.losses[-1]["loss_image"]

    def judge(self) -> None:
        """Measure the averaged weights on valid and keep them if they are the best so far."""
        averaged = self.average.module
        logits, pointed = score(averaged, self.valid, self.image_cache, self.on)
        truth = [item.fractured for item in self.valid]
        means = {name: float(np.mean([loss[name] for loss in self.losses])) for name in (self.losses or [{}])[0]}
        figures: dict[str, Any] = {"auc": auc(truth, logits)}
        if pointed:
            figures["pointing"] = float(np.mean(pointed))
        self.losses = []
        before = max((entry["auc"] for entry in self.record.history), default=-1.0)
        self.record.record(step=self.step, epoch=self.step / self.epoch, **means, **figures)
        write_curves(self.places.run)
        if figures["auc"] > before:
            write_part("classifier", averaged.design, averaged.trunk, averaged.classifier, self.places.run)
            self.record.finish(step=self.step, **figures, auc_95=auc_interval(truth, logits))

    def save(self) -> None:
        """Write the checkpoint."""
        states = {name: module.state_dict() for name, module in self._modules().items()}
        kept = {
            "step": self.step,
            "losses": self.losses,
            "history": self.record.history,
            "metrics": self.record.metrics,
            "started_from": self.record.origin,
        }
        save_checkpoint(self._checkpoint, {**states, **kept, "config": asdict(self.config)})

    def _resume(self, state: dict[str, Any]) -> None:
        for name, module in self._modules().items():
            module.load_state_dict(state[name])
        self.step, self.losses = state["step"], state["losses"]
        self.record.resume(state["history"])
        self.record.metrics = state["metrics"]

    def _modules(self) -> dict[str, Any]:
        return {"model": self.model, "average": self.average.module, "optimizer": self.optimizer}


def _began_with(places: Places) -> tuple[Path | None, tuple[Path, ...]]:
    return (None, (places.start,)) if places.start else (places.weights, ())


def pooled_words(strongest: int) -> str:
    """Say what is pooled of each channel beside its average."""
    return "maximum" if strongest == 1 else f"mean of the {strongest} strongest cells"


def run_probe(places: Places, config: Config, on: Hardware) -> None:
    """Fit the first stage's classifier, measure it and write it as a whole one."""
    title = f"Classifier on frozen features, {config.longest_side} px, {pooled_words(config.probe.strongest)}"
    record = Run(places.run, {**asdict(config), **on.describe()}, places.data, title=title)
    frozen, classifier, areas = probe(places, config, for_training(places.data), on)
    record.origin = origin_of(places.weights)
    record.record(step=0, auc=areas[-1], auc_of_heads=areas[:-1])
    write_curves(places.run)
    write_part("classifier", probe_design(frozen, classifier), frozen.trunk, classifier, places.run)
    record.finish(auc=areas[-1], auc_of_heads=areas[:-1])


def run(places: Places, config: Config) -> None:
    """Run the stages that are asked for; an interrupted run goes on."""
    on = Hardware.repeatable(places.device)
    if config.stage == "probe":
        run_probe(places, config, on)
        return
    training = Training(places, config, on)
    if not training.record.history:
        training.judge()
        training.save()
    steps = range(training.step, training.total)
    batches = training.sampler().batches(training.batch, steps, workers_for(on.device.type))
    with closing(batches), tqdm(initial=training.step, total=training.total, unit="step", mininterval=5) as bar:
        while not training.done:
            bar.set_postfix({"loss": f"{training.learn(next(batches)):.3f}"}, refresh=False)
            bar.update()
            if at_end := training.step % training.epoch == 0:
                training.judge()
            if at_end or training.step % config.checkpoint_every == 0:
                training.save()


def main() -> None:
    """Read the command line."""
    with ending_in_words():
        run(*read_options(__doc__))


if __name__ == "__main__":
    main()
