"""What every trunk is: convolutions whose map both networks can stand on, and how their input is standardised."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from models.preprocess import IMAGENET, Normalisation


class Trunk(nn.Module):
    """(n, 3, rows, columns), standardised by `normalisation`, to the map at stride 8: (n, c, rows / 8, columns / 8)."""

    normalisation: ClassVar[Normalisation] = IMAGENET
