"""What lies over an image that a person looks at: nothing, the boxes, the classifier's heat, or both."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st


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


def choose_layers(key: str) -> Layers:
    """Let a person choose, the boxes at first; `key` keeps the choice between two runs of the page."""
    return CHOICES[st.segmented_control("Show", list(CHOICES), default="Boxes", required=True, key=f"layers-{key}")]


def say_what_heat_is() -> None:
    """Put into words what heat shows and what it does not."""
    st.caption(
        "Heat: where the classifier looked (Grad-CAM). It shows the limb rather than the fracture; boxes locate."
    )
