"""What lies over an image that a person looks at: nothing, the boxes, the classifier's heat, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from models.types import ImageError


@dataclass(frozen=True, slots=True)
class Layers:
    """What is drawn over the original."""

    boxes: bool
    heat: bool


CHOICES = {
    "Original": Layers(boxes=False, heat=False),
    "Boxes": Layers(boxes=True, heat=False),
    "Heat map": Layers(boxes=False, heat=True),
    "Both": Layers(boxes=True, heat=True),
}

DEFAULT = "Boxes"
"""Without the heat map: it does not find fractures (docs/decisions.md)."""


def choose_layers(of: str, key: str) -> Layers:
    """Let a person choose, the boxes at first; `of` names the image, `key` keeps the choice between two runs."""
    words = f"Show ({of})"
    return CHOICES[st.segmented_control(words, list(CHOICES), default=DEFAULT, required=True, key=f"layers-{key}")]


def spoken(boxes: int, layers: Layers, *, heated: bool) -> str:
    """Return in words what is drawn, for whoever cannot see it."""
    return f"{boxes} boxes{'' if layers.boxes else ', not drawn'}{', with a heat map' if heated else ''}"


def heat_or_reason(explain: Callable[[], NDArray[np.float32]], *, analysed: bool) -> NDArray[np.float32] | None:
    """Return the heat, (rows, columns), 0..1, or say why there is none: the classifier does not take every image."""
    if not analysed:
        st.info("This image was not analysed: the classifier did not look at it.")
        return None
    try:
        return explain()
    except ImageError as error:
        st.info(f"There is no heat map of this image: {error}.")
        return None


def say_what_heat_is() -> None:
    """Put into words what heat shows and what it does not."""
    st.caption(
        "Heat: where the classifier looked (Grad-CAM). It shows the limb rather than the fracture; boxes locate."
    )
