"""Train the classifier: fit perceptrons on the frozen VGG16, then let boxes and labels tune its last blocks.

    python -m training.classifier.train --data DATA --weights VGG16.safetensors --run FOLDER

Stage `probe` runs VGG16, as ImageNet or an earlier run (`--start`) left it, once over the images and fits a head on
what it sees; that is a whole classifier (`vgg16_pooled`) already. Stage `finetune` starts there, or at an earlier run
or bundle (`--start`): a location map is taught by the boxes, its peaks join the image's logit, and VGG16's last blocks
follow at rates that fall from block to block. It learns from whole images, or from chips and some whole images
(`--chips`). Run again, it goes on from its checkpoint. The averaged weights of the best evaluation on valid and tune
are in the run's folder, which `training.bundle.export` takes.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

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
from training.classifier.options import ClassifierConfig, read_options
from training.classifier.probe import Frozen, classifier_of, fit, labels_of, looks_at, mean_of, pooled_features, some_of
from training.data.chips import ImageCache
from training.data.dataset import Radiograph, for_training, judging_blocks
from training.data.samples import BatchSampler, Mixture, TrainingSample, workers_for
from training.errors import CannotTrain, ending_in_words
from training.evaluate.curves import write_curves
from training.evaluate.metrics import auc, auc_interval
from training.hardware import Hardware
from training.loop import Places, Training, record_of
from training.runs import Run

# What a step of whole images takes well on a usual device.
BATCH = {"cuda": 32, "cpu": 8}


def probe(
    places: Places, config: ClassifierConfig, images: list[Radiograph], on: Hardware
) -> tuple[Frozen, PooledClassifier, dict[str, Any]]:
    """Fit the heads on images; returns frozen network, classifier, and how well it judges."""
    if places.start:
        frozen = Frozen.tuned(places.start[0], config.preprocessing, config.probe.strongest)
    elif places.weights is not None:
        frozen = Frozen.read(places.weights, config.preprocessing, config.probe.strongest)
    else:
        raise CannotTrain(
            "the stage 'probe' needs --weights, VGG16's ImageNet features, or --start, a tuned classifier"
        )
    images = some_of(images, config.normals, config.probe.seed)
    train = looks_at(images, (False, True) if config.mirrored else (False,))
    blocks = {name: looks_at(block) for name, block in judging_blocks(places.data).items()}
    judging = [look for block in blocks.values() for look in block]
    labels = labels_of(train)
    if not 0 < labels.sum() < len(labels):
        raise CannotTrain("training needs images of both classes")
    features = pooled_features(frozen, [*train, *judging], places.run, on)
    heads = fit(features[: len(train)], labels, config.probe)
    joint = mean_of(heads)
    with torch.no_grad():
        logits = [head.judge(features[len(train) :]).numpy() for head in [joint, *heads]]
    truth = labels_of(judging).numpy()
    figures = areas_of({name: len(block) for name, block in blocks.items()}, truth, logits[0])
    return frozen, classifier_of(frozen, joint), figures | {"auc_of_heads": [auc(truth, each) for each in logits[1:]]}


def areas_of(blocks: Mapping[str, int], truth: Any, logits: Any) -> dict[str, Any]:
    """Return the AUC on all blocks together, its interval, and, of several, that of each; images follow by block."""
    figures: dict[str, Any] = {"auc": auc(truth, logits), "auc_95": auc_interval(truth, logits)}
    if len(blocks) > 1:
        ends = np.cumsum(list(blocks.values()))[:-1]
        parts = zip(blocks, np.split(np.asarray(truth), ends), np.split(logits, ends), strict=True)
        figures["blocks"] = {name: {"auc": auc(known, said)} for name, known, said in parts}
    return figures


def probe_design(frozen: Frozen, classifier: PooledClassifier) -> Design:
    """Say what the first stage's classifier is."""
    head = classifier.head
    options: dict[str, int | float] = {"hidden": head.inner.out_features, "strongest": head.strongest}
    return Design("vgg16_pooled", "vgg16", frozen.preprocessing, options, frozen.width)


def begin(places: Places, config: ClassifierConfig, train: list[Radiograph], on: Hardware) -> TrainableClassifier:
    """Build what the second stage starts from."""
    torch.manual_seed(config.seed)
    fitted_on = some_of(train, config.normals, config.probe.seed)
    share = min(max(float(np.mean([item.fractured for item in fitted_on])), 0.01), 0.99)
    if places.start:
        return read_learner(places.start[0], config.preprocessing, share)
    if config.stage == "finetune":
        raise CannotTrain("the stage 'finetune' needs --start, the folder of an earlier run or of a bundle")
    frozen, classifier, _ = probe(places, config, train, on)
    torch.manual_seed(config.seed)
    return pooled_map_on(classifier, frozen.trunk, probe_design(frozen, classifier), share)


class ClassifierTraining(Training[TrainableClassifier]):
    """A fine-tuning, measured on valid and tune; it ends early where evaluations bring nothing better."""

    part, figure, evaluates_first = "classifier", "auc", True
    config: ClassifierConfig

    def __init__(
        self,
        record: Run,
        config: ClassifierConfig,
        on: Hardware,
        model: TrainableClassifier,
        images: tuple[list[Radiograph], Mapping[str, list[Radiograph]]],
    ) -> None:
        train, self.blocks = images
        self.judging = [item for block in self.blocks.values() for item in block]
        self.images = ImageCache([*train, *self.judging], config.preprocessing)
        self.sampler = BatchSampler(train, self.images, Mixture(config.seed, config.chips, config.whole))
        on.place(model)
        optimizer = optimizer_of(model, config.tuning, round(config.frozen_epochs * config.evaluate_every))
        super().__init__(record, config, on, model, optimizer)

    @property
    def done(self) -> bool:
        """Say whether all steps were taken, or the last evaluations brought nothing better."""
        areas = [entry["auc"] for entry in self.record.history]
        stale = len(areas) - 1 - int(np.argmax(areas)) if areas else 0
        return super().done or stale >= self.config.patience

    def batches(self) -> Generator[list[TrainingSample], None, None]:
        """Yield the samples of each step that is left."""
        steps = range(self.step, self.config.steps)
        return self.sampler.batches(self.config.batch or 1, steps, workers_for(self.on.device.type))

    def set_rates(self) -> None:
        """Set each block's rate; blocks that have not begun yet are frozen."""
        set_rates(self.optimizer, self.step - 1, self.config.steps, self.config.warmup)

    def learn_from(self, batch: list[TrainingSample]) -> dict[str, float]:
        """Take one step of the optimizer; return each loss."""
        self.network.train()
        return learn_from(batch, self.network, self.optimizer, self.config.tuning, self.on)

    def measure(self, network: TrainableClassifier) -> dict[str, Any]:
        """Return the AUC on all blocks together and on each, and how often the map's peak lies in a box."""
        logits, pointed = score(network, self.judging, self.images, self.on)
        truth = [item.fractured for item in self.judging]
        figures: dict[str, Any] = {"epoch": self.step / self.config.evaluate_every}
        figures |= {"pointing": float(np.mean(pointed))} if pointed else {}
        return figures | areas_of({name: len(block) for name, block in self.blocks.items()}, truth, logits)

    def keep(self, network: TrainableClassifier) -> None:
        """Write trunk and classifier."""
        write_part("classifier", network.design, network.trunk, network.classifier, self.record.folder)


def training_of(places: Places, config: ClassifierConfig, on: Hardware) -> ClassifierTraining:
    """Build the fine-tuning on a collection, or what is left of it."""
    train = for_training(places.data)
    batch = config.batch or BATCH[on.device.type]
    epoch = -(-(config.images_an_epoch or len(train)) // batch)
    config = replace(config, batch=batch, steps=epoch * config.epochs, evaluate_every=epoch)
    model = begin(places, config, train, on)
    record = record_of(places, config, on, "Classifier, fine-tuned")
    return ClassifierTraining(record, config, on, model, (train, judging_blocks(places.data)))


def pooled_words(strongest: int) -> str:
    """Say what is pooled of each channel beside its average."""
    return "maximum" if strongest == 1 else f"mean of the {strongest} strongest cells"


def run_probe(places: Places, config: ClassifierConfig, on: Hardware) -> None:
    """Fit the first stage's classifier, measure it and write it as a whole one."""
    title = f"Classifier on frozen features, {config.longest_side} px, {pooled_words(config.probe.strongest)}"
    started = time.time()
    frozen, classifier, figures = probe(places, config, for_training(places.data), on)
    record = record_of(places, config, on, title)
    record.started = started
    record.record(step=0, **figures)
    write_curves(places.run)
    write_part("classifier", probe_design(frozen, classifier), frozen.trunk, classifier, places.run)
    record.finish(**figures)


def run(places: Places, config: ClassifierConfig) -> None:
    """Run the stages that are asked for; an interrupted run goes on."""
    on = Hardware.repeatable(places.device)
    if config.stage == "probe":
        run_probe(places, config, on)
        return
    training_of(places, config, on).run()


def main() -> None:
    """Read the command line."""
    with ending_in_words():
        run(*read_options(__doc__))


if __name__ == "__main__":
    main()
