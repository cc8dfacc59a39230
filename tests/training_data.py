"""Data and starting weights in miniature: a bright square for a fracture, a sixteenth of VGG16's width."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2

from models.vgg import VGG16Block5, VGG16Trunk

ROWS, COLUMNS, SIDE = 120, 100, 24
VGG_WIDTH = 0.0625
MOBILENET_WIDTH = 0.25
PARTS = ("hand", "leg", "hip", "shoulder", "mixed")
COLUMN_NAMES = ["file_name", "split", "fractured", *PARTS, "truncated"]


def write_data(folder: Path, train: int = 24, valid: int = 16) -> None:
    """Write so many images as FracAtlas is laid out; every second one is fractured and has one box."""
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows: list[list[str | int]] = []
    for split, count in (("train", train), ("valid", valid)):
        coco: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        for number in range(count):
            name, fractured = f"{split}{number}.png", number % 2
            pixels = random.integers(0, 90, (ROWS, COLUMNS), dtype=np.uint8)
            if fractured:
                x, y = random.integers(8, COLUMNS - SIDE - 8), random.integers(8, ROWS - SIDE - 8)
                pixels[y : y + SIDE, x : x + SIDE] += 150
                coco["annotations"].append({"image_id": number, "bbox": [int(x), int(y), SIDE, SIDE]})
            Image.fromarray(pixels).save(folder / "images" / name)
            coco["images"].append({"id": number, "file_name": name})
            shown = [int(number // 2 % len(PARTS) == part) for part in range(len(PARTS))]
            rows.append([name, split, fractured, *shown, 0])
        (folder / f"boxes_{split}.json").write_text(json.dumps(coco))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMN_NAMES, *rows])


def write_vgg(path: Path) -> None:
    """Write VGG16's features of a sixteenth of its width under torchvision's names, half precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = {**VGG16Trunk(VGG_WIDTH).state_dict(), **VGG16Block5(VGG_WIDTH).state_dict()}
    # Random layers shrink what passes them; doubled, a signal reaches the end.
    save_file({name: (2.2 * tensor).half() for name, tensor in layers.items()}, path)


def write_mobilenet(path: Path) -> None:
    """Write MobileNetV2 of a quarter of its width under torchvision's names, half precision (counts stay integers)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = mobilenet_v2(width_mult=MOBILENET_WIDTH).state_dict()
    save_file({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in layers.items()}, path)


def write_efficientnet(path: Path) -> None:
    """Write EfficientNet-Lite2 under timm's names, half precision; it has one width."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = timm.create_model("tf_efficientnet_lite2", features_only=True, pretrained=False).state_dict()
    save_file({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in layers.items()}, path)
