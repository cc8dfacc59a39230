"""Load a bundle: a folder with `bundle.json` and safetensors files. A model file is untrusted input.

Nothing in a bundle is executed. Every file is read once, its size and SHA-256 compared with the manifest, and only then
parsed; every tensor must have the name and shape that the architecture asks for, no more and no fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from models.classifier import CLASSIFIERS, Classifier
from models.detector import DETECTORS, FasterRCNNDetector
from models.efficientnet import EfficientNetLite2Trunk
from models.manifest import SHIPPED, FileEntry, Manifest, NetworkEntry, TrunkEntry, read_manifest, read_weights
from models.mobilenet import MobileNetV2Trunk
from models.trunk import Trunk
from models.types import BundleError
from models.vgg import VGG16Trunk

__all__ = ["SHIPPED", "Bundle", "load_bundle", "read_manifest"]

TRUNKS: dict[str, Callable[..., Trunk]] = {
    "vgg16": VGG16Trunk,
    "mobilenet_v2": MobileNetV2Trunk,
    "efficientnet_lite2": EfficientNetLite2Trunk,
}
Network = TypeVar("Network", bound=nn.Module)
FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Manifest and networks, float32 on the CPU, in evaluation mode.

    `classifier_trunk` and `detector_trunk` are one object where the manifest names one file for both.
    """

    manifest: Manifest
    classifier_trunk: Trunk
    detector_trunk: Trunk
    classifier: Classifier[Any]
    detector: FasterRCNNDetector
    card: str

    @property
    def version(self) -> str:
        """`<date>-<name>+<8 hex digits>`."""
        return self.manifest.version


def load_bundle(path: Path | None = None) -> Bundle:
    """Load and check a bundle.

    Parameters
    ----------
    path
        The bundle's folder; None means the one that is shipped with the package.

    Raises
    ------
    BundleError
        Something is missing, malformed, of an unknown version or architecture, or does not match its checksum.
    """
    folder = path or SHIPPED
    manifest = read_manifest(folder)
    tensors = {name: _read_tensors(folder / name, entry) for name, entry in manifest.files.items()}
    trunks = {
        entry.trunk.file: _trunk(entry.trunk, manifest.width, tensors)
        for entry in (manifest.classifier, manifest.detector)
    }
    return Bundle(
        manifest=manifest,
        classifier_trunk=trunks[manifest.classifier.trunk.file],
        detector_trunk=trunks[manifest.detector.trunk.file],
        classifier=_network(CLASSIFIERS, manifest.classifier, manifest.width, tensors),
        detector=_network(DETECTORS, manifest.detector, manifest.width, tensors),
        card=_card(folder),
    )


def _read_tensors(path: Path, entry: FileEntry) -> dict[str, Tensor]:
    """Read one file, compare size and checksum, then parse the very bytes that were compared."""
    content = read_weights(path, entry)
    try:
        tensors = load_safetensors(content)
    except SafetensorError as error:
        raise BundleError(f"{path.name} is not a safetensors file") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise BundleError(f"{path.name}: {name} is {tensor.dtype}, not a floating point tensor")
        if not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"{path.name}: {name} holds values that are not finite")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _trunk(entry: TrunkEntry, width: float, tensors: dict[str, dict[str, Tensor]]) -> Trunk:
    return _build(TRUNKS, entry.architecture, {"width": entry.width or width}, tensors[entry.file])


def _network(
    registry: dict[str, Callable[..., Network]],
    entry: NetworkEntry,
    width: float,
    tensors: dict[str, dict[str, Tensor]],
) -> Network:
    return _build(registry, entry.architecture, {"width": width, **entry.options}, tensors[entry.file])


def _build(
    registry: dict[str, Callable[..., Network]], name: str, options: dict[str, Any], tensors: dict[str, Tensor]
) -> Network:
    if name not in registry:
        raise BundleError(f"unknown architecture {name!r}; known: {', '.join(sorted(registry))}")
    try:
        module = registry[name](**options)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise BundleError(
            f"{name} cannot be built with {', '.join(f'{k}={options[k]}' for k in sorted(options))}"
        ) from error
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:  # missing, unexpected or misshapen tensors; torch lists them after the first line
        details = " ".join(str(error).split())[:300]
        raise BundleError(f"the weights do not fit {name}: {details}") from error
    module.eval().requires_grad_(False)
    return module


def _card(folder: Path) -> str:
    try:
        return (folder / "README.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError("the model card README.md is not readable text") from error
