"""One image of a study's page: the picture and what lies over it, what was said of it, and its marked copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from dicom_io.errors import DicomError
from dicom_io.pixels.frames import read_displayed
from dicom_io.report.drawing import Marks, mark_image, marks_of
from dicom_io.types import Box, Outcome, ReportedImage
from models.types import ModelError
from worker.db.tables import ImageResult, Instance
from worker.settings.settings import Settings
from worker.storage.stores import store_of
from worker.ui.answer import answer_words
from worker.ui.downloads import offer_file
from worker.ui.layers import choose_layers, heat_or_reason, say_what_heat_is, spoken
from worker.ui.model import SharedModel, current_model
from worker.ui.study_view import StudyView
from worker.ui.viewer import ViewerImage, show_picture, show_scores
from worker.ui.visit import Visit

MOST_IMAGES = 12
"""So many stand on one page."""


def show_image(visit: Visit, found: StudyView, instance: Instance, image: ImageResult, place: int) -> None:
    """Show an image of a study; it is the one at this place, 1 the gravest."""
    boxes = tuple(Box(box.x1, box.y1, box.x2, box.y2, box.score) for box in image.findings)
    title = " ".join(filter(None, (instance.body_part_examined, instance.laterality, instance.view_position)))
    st.text(f"{title or 'Image'}, frame {image.frame_number}: {answer_words(image.outcome, image.probability)}")
    if image.reason:
        st.text(image.reason)
    if image.warning:
        st.text(f"Of the file: {image.warning}")
    show_scores(boxes)  # what was said stays, whether or not the image can be shown
    if instance.file_deleted_reason is not None:
        st.info("The image's file was deleted here after its report was committed; the PACS holds it.")
        return
    try:
        grey, aspect, warnings = _decoded(visit.settings, instance.path, instance.digest, max(image.frame_number, 1))
    except (DicomError, OSError):
        st.warning("The image cannot be shown: its file is missing or cannot be decoded.")
        return
    layers = choose_layers(f"image {place}", f"image-{image.id}")
    heat = _heat(visit, found, instance, image, grey) if layers.heat else None
    words = f"Radiograph, {image.outcome}, {spoken(len(boxes), layers, heated=heat is not None)}"
    unclear = image.outcome == Outcome.INCONCLUSIVE
    shown = boxes if layers.boxes else ()
    show_picture(ViewerImage(grey, shown, words, aspect, heat, dashed=unclear), f"image-{image.id}")
    if heat is not None:
        say_what_heat_is()
    said = ReportedImage(
        Path(instance.path), image.frame_number, Outcome(image.outcome), image.probability, boxes, image.reason
    )
    marks = marks_of(said, found.result.model_version or "", aspect, warnings)
    offer_file(
        "Marked image (PNG)",
        lambda: _marked(visit, found, grey, marks),
        f"marked-{image.id}.png",
        "image/png",
    )


@st.cache_data(max_entries=MOST_IMAGES, show_spinner="Decoding the image")
def _decoded(
    _settings: Settings, relative: str, digest: str, number: int
) -> tuple[NDArray[np.uint8], float, tuple[str, ...]]:
    """Return a frame, uint8 (rows, columns), its pixels' height by width, and its warnings.

    Other contents have another `digest`.
    """
    frame = read_displayed(store_of(_settings).path(relative), number)
    return np.rint(frame.pixels * 255).astype(np.uint8), frame.aspect, frame.warnings


def _heat(
    visit: Visit, found: StudyView, instance: Instance, image: ImageResult, grey: NDArray[np.uint8]
) -> NDArray[np.float32] | None:
    """Return where the classifier of the answer looked, or say why that cannot be told."""
    try:
        model = current_model(visit.settings)
    except ModelError:
        st.info("There is no usable model here to draw the heat map with.")
        return None
    if model.version != found.result.model_version:
        st.info("Another model than the one in use gave this answer: where it looked cannot be shown.")
        return None
    return heat_or_reason(
        lambda: np.divide(
            _explained(model, grey, model.version, instance.digest, image.frame_number), 255, dtype=np.float32
        ),
        analysed=image.probability is not None,
    )


@st.cache_data(max_entries=MOST_IMAGES, show_spinner="Asking where the classifier looked")
def _explained(
    _model: SharedModel, _grey: NDArray[np.uint8], version: str, digest: str, number: int
) -> NDArray[np.uint8]:
    """Return the heat of a frame, uint8 (rows, columns); it takes seconds, and the page is drawn often."""
    return np.rint(_model.explain(np.divide(_grey, 255, dtype=np.float32)) * 255).astype(np.uint8)


def _marked(visit: Visit, found: StudyView, grey: NDArray[np.uint8], marks: Marks) -> bytes:
    visit.pressed("download of a marked image", found.result.study_id)
    return mark_image(np.divide(grey, 255, dtype=np.float32), marks)
