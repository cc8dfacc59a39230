"""A trained network as a run leaves it, and as a bundle holds it: trunk, network, and how both are built and fed.

A run's folder has `trunk.safetensors`, one of `classifier.safetensors` and `detector.safetensors`, and `part.json`. A
bundle's folder has the same under its manifest, so that either can be the start of a run or a half of a bundle.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.manifest import MANIFEST_NAME, read_manifest
from models.preprocess import Preprocessing
from training.runs import save_weights

Kind = Literal["classifier", "detector"]
Tensors = dict[str, Tensor]
PART_NAME = "part.json"


@dataclass(frozen=True, slots=True)
class Design:
    """What must be known beside the tensors: names in the registries, options, the input."""

    architecture: str
    trunk: str
    preprocessing: Preprocessing
    options: dict[str, int | float]
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """One of a bundle's two networks with its trunk, float32."""

    kind: Kind
    design: Design
    trunk: Tensors
    network: Tensors

    def entry(self, trunk_file: str, width: float) -> dict[str, Any]:
        """Return the entry (`models.manifest.NetworkEntry`) in the manifest of a bundle of this width."""
        own = {} if self.design.width == width else {"width": self.design.width}
        return {
            "architecture": self.design.architecture,
            "options": {**self.design.options, **own},
            "file": f"{self.kind}.safetensors",
            "trunk": {"architecture": self.design.trunk, "file": trunk_file, **own},
            "preprocessing": asdict(self.design.preprocessing),
        }

    def without_unlikeness(self) -> Part:
        """Return the network without its measure of unlikeness, which other convolutions would make wrong."""
        options = {name: value for name, value in self.design.options.items() if name not in {"seen", "components"}}
        network = {name: tensor for name, tensor in self.network.items() if not name.startswith("unlikeness.")}
        return replace(self, design=replace(self.design, options=options), network=network)

    def shares_trunk_with(self, other: Part) -> bool:
        """Say whether both trunks are one and the same, as the bundle would store them (float16)."""
        return self.trunk.keys() == other.trunk.keys() and all(
            torch.equal(tensor.half(), other.trunk[name].half()) for name, tensor in self.trunk.items()
        )


def write_part(kind: Kind, design: Design, trunk: nn.Module, network: nn.Module, folder: Path) -> None:
    """Write a run's network; `read_part` reads it again."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(trunk, folder / "trunk.safetensors")
    save_weights(network, folder / f"{kind}.safetensors")
    (folder / PART_NAME).write_text(json.dumps({"kind": kind, **asdict(design)}, indent=1) + "\n")


def read_part(folder: Path, kind: Kind) -> Part:
    """Read a network from a run's or a bundle's folder.

    Raises
    ------
    FileNotFoundError
        The folder is neither.
    ValueError
        The run's folder holds the other kind of network.
    """
    if (folder / MANIFEST_NAME).exists():
        return _from_bundle(folder, kind)
    content = json.loads((folder / PART_NAME).read_text())
    if (found := content.pop("kind")) != kind:
        raise ValueError(f"{folder} holds a {found}, not a {kind}")
    settings = content.pop("preprocessing")
    settings["stretch_percentiles"] = tuple(settings["stretch_percentiles"])
    design = Design(preprocessing=Preprocessing(**settings), **content)
    return Part(kind, design, _read(folder / "trunk.safetensors"), _read(folder / f"{kind}.safetensors"))


def _from_bundle(folder: Path, kind: Kind) -> Part:
    manifest = read_manifest(folder)
    entry = manifest.classifier if kind == "classifier" else manifest.detector
    options = dict(entry.options)
    width = options.pop("width", manifest.width)
    design = Design(entry.architecture, entry.trunk.architecture, entry.preprocessing.build(), options, width)
    return Part(kind, design, _read(folder / entry.trunk.file), _read(folder / entry.file))


def _read(path: Path) -> Tensors:
    return {name: tensor.float() for name, tensor in load_file(path).items()}


def averaged(parts: Sequence[Part]) -> Part:
    """Return the mean of networks that come from one another: a soup, at the cost of one network.

    How images are prepared and the network is read is taken from the first.

    It makes sense only for runs that one continues the other, or that start from the same weights.

    Raises
    ------
    ValueError
        The networks are not of one kind and architecture.

    References
    ----------
    M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
    increasing inference time", ICML 2022.
    """
    first = parts[0]
    if any(_shape_of(part) != _shape_of(first) for part in parts):
        raise ValueError("networks of different architectures cannot be averaged")
    if len(parts) == 1:  # bit for bit, which a mean is not: it turns -0 into 0
        return first
    return replace(first, trunk=_mean([part.trunk for part in parts]), network=_mean([part.network for part in parts]))


def _shape_of(part: Part) -> tuple[Any, ...]:
    tensors = {name: tensor.shape for name, tensor in (*part.trunk.items(), *part.network.items())}
    return part.kind, part.design.architecture, part.design.trunk, tensors


def _mean(tensors: Sequence[Tensors]) -> Tensors:
    return {name: torch.stack([each[name].float() for each in tensors]).mean(0) for name in tensors[0]}
