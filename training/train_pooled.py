"""Fit the pooled classifier's head on the features of the frozen VGG16.

    python -m training.train_pooled --data DATA --weights VGG16.safetensors --cache FOLDER --run FOLDER

The features are computed once; an epoch then takes a second. Several heads are trained from several seeds and the run
keeps one network that is their mean: the hidden units stand side by side.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from models.classifier import PooledClassifier, PooledHead
from training.cache import Sample, load_vgg
from training.features import pooled
from training.metrics import auc
from training.runs import Places, Run, available, save_weights


@dataclass(frozen=True)
class Config:
    """What was chosen for a run."""

    heads: int = 4
    hidden: int = 256  # of each head
    epochs: int = 25
    batch: int = 64
    rate: float = 1e-3
    weight_decay: float = 0.1
    seed: int = 5


def train_head(features: Tensor, labels: Tensor, config: Config, seed: int) -> PooledHead:
    """Train one head on pooled features (n, f) and labels (n,)."""
    torch.manual_seed(seed)
    head = PooledHead(features.shape[1], config.hidden)
    head.mean.copy_(features.mean(0))
    head.spread.copy_(features.std(0).clamp(min=1e-3))
    optimizer = torch.optim.AdamW(head.parameters(), config.rate, weight_decay=config.weight_decay)
    for _ in range(config.epochs):
        for batch in torch.split(torch.randperm(len(features)), config.batch):
            loss = binary_cross_entropy_with_logits(head.judge(features[batch]), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return head.eval()


def mean_of(heads: list[PooledHead]) -> PooledHead:
    """Put heads of the same features side by side: one head whose logit is the mean of theirs."""
    joint = PooledHead(heads[0].inner.in_features, sum(head.inner.out_features for head in heads))
    with torch.no_grad():
        joint.mean.copy_(heads[0].mean)
        joint.spread.copy_(heads[0].spread)
        joint.inner.weight.copy_(torch.cat([head.inner.weight for head in heads]))
        joint.inner.bias.copy_(torch.cat([head.inner.bias for head in heads]))
        joint.outer.weight.copy_(torch.cat([head.outer.weight for head in heads], dim=1) / len(heads))
        joint.outer.bias.copy_(torch.stack([head.outer.bias for head in heads]).mean(0))
    return joint.eval()


def labels_of(samples: list[Sample]) -> Tensor:
    """Return 1 for a fractured image, 0 for another."""
    return torch.tensor([float(sample.radiograph.fractured) for sample in samples])


def run(places: Places, config: Config) -> None:
    """Pool, train the heads, join them, measure, write `classifier.safetensors`."""
    record = Run(places.run, asdict(config))
    places.run.mkdir(parents=True, exist_ok=True)
    vgg = load_vgg(places.weights)
    train = available(places.data, places.cache, "train")
    valid = [sample for sample in available(places.data, places.cache, "valid") if not sample.radiograph.truncated]
    kept = places.run / "pooled.safetensors"
    features, held_out = (pooled(samples, places.cache, vgg.block5, kept) for samples in (train, valid))
    heads = [train_head(features, labels_of(train), config, config.seed + number) for number in range(config.heads)]
    joint = mean_of(heads)
    classifier = PooledClassifier(vgg.width, config.hidden * config.heads)
    classifier.block5.load_state_dict(vgg.block5.state_dict())
    classifier.head = joint
    with torch.no_grad():
        areas = [auc(labels_of(valid).numpy(), head.judge(held_out).numpy()) for head in [*heads, joint]]
    record.record(samples=len(train), auc_of_heads=areas[:-1], auc=areas[-1])
    save_weights(classifier, places.run / "classifier.safetensors")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv, boxes_*.json and images/")
    parser.add_argument("--weights", type=Path, required=True, help="VGG16 ImageNet features (safetensors)")
    parser.add_argument("--cache", type=Path, required=True, help="folder that training.cache has filled")
    parser.add_argument("--run", type=Path, required=True, help="folder for features, weights and run.json")
    parser.add_argument("--heads", type=int, default=Config.heads)
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    parser.add_argument("--seed", type=int, default=Config.seed)
    given = parser.parse_args()
    config = Config(heads=given.heads, epochs=given.epochs, seed=given.seed)
    run(Places(given.data, given.weights, given.cache, given.run), config)


if __name__ == "__main__":
    main()
