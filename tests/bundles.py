"""A tiny bundle with random weights: quick to build and load, useless for anything but tests of the machinery."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from models.classifier import LocationMapClassifier
from models.detector import VGG16Detector
from models.vgg import VGG16Trunk

WIDTH = 0.0625


def write_tiny_bundle(folder: Path) -> Path:
    """Write networks of a sixteenth of VGG16's width; the same weights every time."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _tiny_weights().items():
        (folder / name).write_bytes(content)
    write_manifest(folder, tiny_manifest(folder))
    (folder / "README.md").write_text("A test bundle.\n")
    return folder


def write_quiet_bundle(folder: Path) -> Path:
    """Write a tiny bundle that finds no boxes: with random weights it finds thirty an image, as no real study has."""
    write_tiny_bundle(folder)
    manifest = tiny_manifest(folder)
    manifest["decision"]["box_score"] = 0.99
    write_manifest(folder, manifest)
    return folder


@functools.cache
def _tiny_weights() -> dict[str, bytes]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        networks: dict[str, nn.Module] = {
            "trunk.safetensors": VGG16Trunk(WIDTH),
            "classifier.safetensors": LocationMapClassifier(WIDTH, hidden=8),
            "detector.safetensors": VGG16Detector(WIDTH, pyramid_channels=16, representation=16),
        }
    return {
        name: save({key: tensor.half().contiguous() for key, tensor in network.state_dict().items()})
        for name, network in networks.items()
    }


def tiny_manifest(folder: Path) -> dict[str, Any]:
    preprocessing = {
        "longest_side": 128,
        "denoise": "bilateral",
        "denoise_size": 5,
        "stretch_percentiles": [0.5, 99.5],
    }
    trunk = {"architecture": "vgg16", "file": "trunk.safetensors"}
    return {
        "schema_version": 1,
        "name": "tiny",
        "date": "2026-01-01",
        "intended_use": "tests",
        "width": WIDTH,
        "classifier": {
            "architecture": "vgg16_location_map",
            "options": {"hidden": 8},
            "file": "classifier.safetensors",
            "trunk": trunk,
            "preprocessing": preprocessing,
        },
        "detector": {
            "architecture": "faster_rcnn_vgg16_fpn",
            "options": {"pyramid_channels": 16, "representation": 16},
            "file": "detector.safetensors",
            "trunk": trunk,
            "preprocessing": preprocessing,
        },
        "calibration": {"intercept": 0.0, "classifier_weight": 1.0, "detector_weight": 0.0},
        "decision": {"low": 0.2, "high": 0.8, "box_score": 0.5, "rule": "chosen by hand for tests"},
        "files": {name: describe(folder / name) for name in sorted(path.name for path in folder.glob("*.safetensors"))},
        "training_data": "none: random weights",
        "licences": [{"work": "random weights", "licence": "Apache-2.0", "attribution": "the bonewatch authors"}],
        "metrics": {},
    }


def describe(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    written = folder / "bundle.json.new"
    written.write_text(json.dumps(manifest))
    written.replace(folder / "bundle.json")  # at once: it may be read at any moment
