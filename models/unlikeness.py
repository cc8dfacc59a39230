"""How unlike every image that it was trained on is an image? White noise or a photograph must not become 'absent'.

The distance, in a projection of VGG16's pooled features, to the nearest training image, as a multiple of the distance
that one training image in a hundred has to those of other folds: above 1 an image is unlike.

References
----------
Y. Sun, Y. Ming, X. Zhu, Y. Li, "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRONGEST = 8
"""Cells of each channel whose mean is looked at beside that of all."""


class Unlikeness(nn.Module):
    """The training images as they are projected, and the projection.

    Parameters
    ----------
    features
        Pooled features of an image (`models.classifier.pool`).
    components
        Numbers that an image is projected to.
    images
        Training images that are kept.
    """

    projection: Tensor
    offset: Tensor
    seen: Tensor
    limit: Tensor

    def __init__(self, features: int, components: int, images: int) -> None:
        super().__init__()
        self.register_buffer("projection", torch.zeros(components, features))
        self.register_buffer("offset", torch.zeros(components))
        self.register_buffer("seen", torch.zeros(images, components))
        self.register_buffer("limit", torch.ones(()))

    def project(self, pooled: Tensor) -> Tensor:
        """Project pooled features (n, features), none below 0, to (n, components)."""
        return pooled.log1p() @ self.projection.T + self.offset

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the unlikeness (n,) of pooled features (n, features): 0 and more, above 1 is unlike."""
        distance = torch.cdist(self.project(pooled), self.seen).amin(1)
        # A limit that is none must not let everything pass.
        return torch.where(self.limit > 0, distance / self.limit, torch.inf)
