"""The image with its boxes, as a person looks at it: zoom, pan, keyboard, and boxes that stay sharp."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from dicom_io.types import Box

LONGEST_SIDE = 2048
_FOLDER = Path(__file__).parent
_viewer = st.components.v2.component(
    "bonewatch_viewer",
    html='<div class="viewer"></div>',
    css=(_FOLDER / "viewer.css").read_text(encoding="utf-8"),
    js=(_FOLDER / "viewer.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True, slots=True)
class ViewerImage:
    """What is shown of an image.

    Attributes
    ----------
    pixels : numpy.ndarray
        uint8, shape (rows, columns), as displayed; sent smaller where it is larger than `LONGEST_SIDE`.
    boxes : sequence of dicom_io.types.Box
        In pixels of `pixels`, each with its score beside it.
    words : str
        What a screen reader says.
    aspect : float
        Height of a pixel divided by its width.
    heat : numpy.ndarray, optional
        float32, shape (rows, columns), 0..1: laid over the image.
    dashed : bool
        Whether the boxes are drawn so, because the image is unclear.
    """

    pixels: NDArray[np.uint8]
    boxes: Sequence[Box]
    words: str
    aspect: float = 1.0
    heat: NDArray[np.float32] | None = None
    dashed: bool = False


def show_picture(picture: ViewerImage, key: str) -> None:
    """Show an image, and say so where it has fewer pixels than the original; `key` keeps the zoom between two runs."""
    _viewer(key=key, data=drawn(picture))
    longest = max(picture.pixels.shape)
    if longest > LONGEST_SIDE:
        # A fine line may be lost in it, however far one zooms. Rounded down: never "100 %".
        st.caption(f"Shown at {100 * LONGEST_SIDE // longest} % of its resolution.")


def show_scores(boxes: Sequence[Box]) -> None:
    """Put into words what is written beside the boxes, for whoever cannot see it; the best box comes first."""
    if boxes:
        scores = ", ".join(f"{number}: {box.score:.2f}" for number, box in enumerate(boxes, start=1))
        st.text(f"Boxes, best first, with region scores from 0 to 1: {scores}")


def drawn(picture: ViewerImage) -> dict[str, object]:
    """Return what the browser draws: a unit to the right is a pixel's width, a unit down is as long."""
    rows, columns = picture.pixels.shape
    return {
        "image": _data_url(Image.fromarray(picture.pixels)),
        "heat": None if picture.heat is None else _data_url(_coloured(picture.heat)),
        "height": rows * picture.aspect,
        "width": columns,
        "words": picture.words,
        "boxes": [
            {"x1": box.x1, "y1": box.y1 * picture.aspect, "x2": box.x2, "y2": box.y2 * picture.aspect,
             "label": f"{box.score:.2f}", "dashed": picture.dashed}
            for box in picture.boxes
        ],
    }  # fmt: skip


def _coloured(heat: NDArray[np.float32]) -> Image.Image:
    """Colour heat from clear through orange to yellow; what is cold stays clear."""
    level = np.clip(heat, 0, 1)
    colours = np.stack([np.full_like(level, 255), 255 * level, np.zeros_like(level), 255 * np.sqrt(level)], axis=-1)
    return Image.fromarray(colours.astype(np.uint8), "RGBA")


def _data_url(image: Image.Image) -> str:
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    with io.BytesIO() as stream:
        image.save(stream, "PNG", compress_level=3)
        return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
