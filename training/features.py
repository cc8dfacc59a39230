"""Pool the maps of the cached samples: the classifier's inputs, a kilobyte or two an image."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from models.classifier import pool
from models.vgg import VGG16Block5
from training.cache import Sample
from training.runs import read_maps


@torch.inference_mode()
def pooled(samples: list[Sample], cache: Path, block5: VGG16Block5, kept: Path) -> Tensor:
    """Return pooled features (n, 2 * channels) of the samples under block 5; what was computed before is in `kept`."""
    known = load_file(kept) if kept.exists() else {}
    block5 = copy.deepcopy(block5).eval().bfloat16().to(memory_format=torch.channels_last)
    missing = [sample for sample in samples if sample.key not in known]
    for sample in tqdm(missing, unit="image", desc="pool", mininterval=5):
        known[sample.key] = pool(block5(read_maps(cache, sample).maps[None]).float())[0]
    if missing:
        save_file({name: tensor.contiguous() for name, tensor in known.items()}, kept)
    return torch.stack([known[sample.key] for sample in samples])
