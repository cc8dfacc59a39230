"""Where in the image does the classifier's answer come from? Grad-CAM, registered to the image's own pixels.

References
----------
R. R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import relu

from models.classifier import Classifier
from models.preprocess import Letterbox

FloatArray = NDArray[np.float32]


def grad_cam(classifier: Classifier[Any], trunk_maps: Tensor) -> FloatArray:
    """Return how much each cell of block 5's map speaks for a fracture.

    A channel weighs as much as the logit changes with it, averaged over all cells; a cell's heat is the weighted sum of
    its channels, what speaks against a fracture left out.

    Parameters
    ----------
    classifier
        In evaluation mode.
    trunk_maps
        (1, channels, canvas rows / 8, canvas columns / 8).

    Returns
    -------
    numpy.ndarray
        float32, shape (canvas rows / 16, canvas columns / 16), in units of the logit, not below 0.
    """
    with torch.inference_mode():
        deep = classifier.block5(trunk_maps).float()
    with torch.enable_grad():
        # A copy that remembers: only the head is run backwards, which costs next to nothing.
        cells = deep.clone().requires_grad_()
        (slope,) = torch.autograd.grad(classifier.head(cells).logits.sum(), cells)
    weights = slope.mean((2, 3), keepdim=True)
    heat = relu((weights * cells.detach()).sum(1))[0]
    return np.asarray(heat.cpu().numpy(), dtype=np.float32)


def register(heat: FloatArray, letterbox: Letterbox) -> FloatArray:
    """Stretch a map of cells over the image's own pixels.

    Parameters
    ----------
    heat
        float32, (canvas rows / 16, canvas columns / 16), not below 0.
    letterbox
        Where the image lies on the canvas.

    Returns
    -------
    numpy.ndarray
        float32, (source rows, source columns), 0..1: the hottest pixel is 1, and all are 0 where nothing speaks for a
        fracture.
    """
    canvas = cv2.resize(heat, (letterbox.canvas_columns, letterbox.canvas_rows), interpolation=cv2.INTER_LINEAR)
    content = canvas[: letterbox.rows, : letterbox.columns]
    size = letterbox.source_columns, letterbox.source_rows
    source = np.asarray(cv2.resize(content, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    hottest = float(source.max())
    return source / np.float32(hottest) if hottest > 0 else np.zeros_like(source)
