"""Analyse an X-ray: files in, outcome, boxes and heat out; nothing is stored."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from dicom_io.types import Outcome
from models.types import ModelError
from worker.analyze import Answer, FrameAnswer, Workbench, analyze_file
from worker.candidates import select
from worker.ui.answer import show_outcome, show_probability
from worker.ui.model import SharedModel, current_model
from worker.ui.viewer import ShownBox, show_image
from worker.ui.visit import Visit, plain

BOXES, HEAT = "Boxes", "Heat map"
ADVICE = {
    Outcome.FAILED: "The file is damaged, incomplete or no image. Export it from the PACS again, the original rather "
    "than a copy.",
    Outcome.OUT_OF_SCOPE: "The model was not made for this kind of image, so it says nothing about it.",
}


@dataclass(frozen=True, slots=True)
class Analysed:
    """An uploaded file and what was said of it; `grey` is the gravest frame, 16 bits a pixel to save memory."""

    name: str
    answer: Answer
    grey: NDArray[np.uint16] | None


def show(visit: Visit) -> None:
    """Show the page."""
    st.title("Analyse an X-ray")
    st.caption(
        "DICOM, PNG or JPEG. What you upload is analysed and forgotten when you leave; to keep a study, let the PACS "
        "send it."
    )
    uploads = st.file_uploader(
        f"Up to {visit.settings.ui_uploads} files of up to {visit.settings.ui_upload_megabytes} MB",
        accept_multiple_files=True,
    )
    if not uploads:
        return
    if len(uploads) > visit.settings.ui_uploads:
        st.error(f"{len(uploads)} files are too many: up to {visit.settings.ui_uploads} at a time.")
        return
    try:
        model = current_model(visit.settings)
    except ModelError:
        st.error("There is no usable model here. An operator finds out why with `bonewatch doctor`.")
        return
    found = _analysed(visit, model, uploads)
    if len(found) == 2:
        for column, each in zip(st.columns(2), found, strict=True):
            with column:
                _show(each, model)
        return
    for each in found:
        _show(each, model)


def _analysed(visit: Visit, model: SharedModel, uploads: Sequence[Any]) -> list[Analysed]:
    """Analyse what is new among the uploads; what was taken away is forgotten."""
    known: dict[str, Analysed] = st.session_state.get("analysed", {})
    kept = {each.file_id: known[each.file_id] for each in uploads if each.file_id in known}
    waiting = [each for each in uploads if each.file_id not in kept]
    if waiting:
        visit.pressed(f"analyse {len(waiting)} uploads")
        bar = st.progress(0.0, "Analysing")
        for number, upload in enumerate(waiting):
            bar.progress(number / len(waiting), f"Analysing {number + 1} of {len(waiting)}")
            kept[upload.file_id] = _analyse(visit, model, upload)
        bar.empty()
    st.session_state["analysed"] = kept
    return [kept[each.file_id] for each in uploads]


def _analyse(visit: Visit, model: SharedModel, upload: Any) -> Analysed:
    """Analyse one upload by the way of `bonewatch analyze`; the file is on disk for no longer than that takes."""
    with tempfile.TemporaryDirectory(prefix="bonewatch-upload-") as folder:
        # The name that the visitor's machine gives is only shown: what a file is, its content says.
        path = Path(folder) / "upload"
        path.write_bytes(upload.getbuffer())
        (candidate,) = select([path]).candidates
        answer = analyze_file(candidate, Workbench(lambda: model, visit.settings.scope()))
    grey = None if answer.pixels is None else np.rint(answer.pixels * 65535).astype(np.uint16)
    return Analysed(str(upload.name), answer.without_pixels(), grey)


def _show(each: Analysed, model: SharedModel) -> None:
    with st.container(border=True):
        st.text(each.name)
        answer, frame = each.answer, each.answer.frame
        show_outcome(answer.outcome.value, ADVICE.get(answer.outcome))
        if answer.reason is not None:
            st.caption(plain(f"In detail: {answer.reason}"))
        if frame is None or each.grey is None:
            return
        if frame.probability is not None:
            show_probability(frame.probability, model.manifest.decision.build())
        key = f"{each.name}-{id(each)}"
        _show_picture(each, frame, model, key)
        facts = {"Model": answer.model_version, "Time": f"{answer.seconds or 0:.2f} s"}
        if answer.header is not None:
            facts["Body part"] = answer.header.body_part_examined or "not said"
        if len(answer.frames) > 1:
            facts["Frame shown"] = f"{frame.number} of {len(answer.frames)}, the gravest"
        for name, value in facts.items():
            st.text(f"{name}: {value}")
        if len(answer.frames) > 1:
            st.dataframe(
                [
                    {"Frame": one.number, "Outcome": one.outcome.value, "Probability": one.probability}
                    for one in answer.frames
                ],
                hide_index=True,
            )


def _show_picture(each: Analysed, frame: FrameAnswer, model: SharedModel, key: str) -> None:
    shown = st.pills("Show", [BOXES, HEAT], selection_mode="multi", default=[BOXES], key=f"shown-{key}")
    low, high = 0.0, 100.0
    if each.answer.header is not None:
        with st.expander("Window"):
            level = st.slider("Level (% of the displayed range)", 0, 100, 50, key=f"level-{key}")
            width = st.slider("Width (% of the displayed range)", 1, 200, 100, key=f"width-{key}")
            low, high = level - width / 2, level + width / 2
    assert each.grey is not None  # noqa: S101 - the caller looked
    pixels = each.grey.astype(np.float32) / np.float32(65535)
    heat = model.explain(pixels) if HEAT in shown else None
    boxes = [ShownBox(box.x1, box.y1, box.x2, box.y2, f"{box.score or 0:.2f}") for box in frame.boxes]
    grey = np.clip((pixels * 100 - low) / (high - low), 0, 1)
    words = f"Radiograph, {each.answer.outcome.value}, {len(boxes)} boxes"
    show_image(np.rint(grey * 255).astype(np.uint8), boxes if BOXES in shown else [], words, f"viewer-{key}", heat)
    if heat is not None:
        st.caption(
            "Heat: where the classifier looked (Grad-CAM). It shows the limb rather than the fracture; boxes locate."
        )
    if boxes:
        scores = ", ".join(f"{number}: {box.label}" for number, box in enumerate(boxes, start=1))
        st.text(f"Boxes, best first, with scores: {scores}")
