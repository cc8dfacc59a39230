"""Analyse an X-ray: files in, outcome, boxes and heat out; nothing is stored unless an operator ticks so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from dicom_io.pixels.limits import MONOCHROME
from dicom_io.types import Outcome
from models.types import ModelError
from worker.files.analyze import FileResult
from worker.study.outcomes import ImageOutcome, gravest, joined, study_outcome
from worker.ui.answer import answer_words, show_outcome, show_probability
from worker.ui.keeping import offer_to_keep
from worker.ui.layers import choose_layers, heat_or_reason, say_what_heat_is, spoken
from worker.ui.model import SharedModel, current_model
from worker.ui.rows import Row, show_rows
from worker.ui.uploads import BESIDE, Analysed, analysed, at_frame, by_study, heat_of, levels_of
from worker.ui.viewer import ViewerImage, show_picture, show_scores
from worker.ui.visit import Visit, plain
from worker.ui.words import outcome_words

ADVICE = {
    Outcome.INCONCLUSIVE: "A fracture is neither found nor ruled out: look closely, first wherever there is a box.",
    Outcome.FAILED: "The file is damaged, incomplete or no image. Export it from the PACS again, the original rather "
    "than a copy.",
    Outcome.OUT_OF_SCOPE: "The model was not made for this kind of image, so it says nothing about it.",
}


def show(visit: Visit) -> None:
    """Show the page."""
    st.title("Analyse an X-ray")
    st.caption(
        "DICOM, or a picture (JPEG, PNG, TIFF, WebP). "
        f"What you upload is analysed and forgotten when you leave{_unless(visit)}."
    )
    uploads = st.file_uploader("X-ray images", accept_multiple_files=True)
    # Streamlit marks a refused file red and gives no reason that a clinician could read; the page never hears of it.
    st.caption(
        f"Up to {visit.settings.ui_uploads} files of up to {visit.settings.ui_upload_megabytes} MB each at a time. "
        "A file marked red was not analysed: it is larger than that, or there are too many. Remove it and the files "
        "you are done with, here and in other windows of this page, then add it again. A larger file can only come "
        "from the PACS."
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
    found = analysed(visit, model, uploads)
    groups = by_study(found)
    alone = partial(_show_alone, visit, model)
    if len(found) == 2 and len(groups) == 2:
        _side_by_side(found, alone)  # whoever uploads two files compares them
        return
    for group in groups:
        if len(group) > 1:
            together = outcome_words(gravest(each.answer.outcome for each in group).value)
            st.subheader(f"{len(group)} images of one study: {together}")
            _side_by_side(group, partial(_show, model))
            offer_to_keep(visit, group)
        else:
            alone(group[0])


def _unless(visit: Visit) -> str:
    if visit.may_act:
        return ", unless you tick to keep it"
    return "; to keep a study, let the PACS send it"


def _side_by_side(images: Sequence[Analysed], show_one: Callable[[Analysed], None]) -> None:
    if len(images) == 1:
        show_one(images[0])
        return
    for start in range(0, len(images), 2):
        for column, each in zip(st.columns(2), images[start : start + 2], strict=False):
            with column:
                show_one(each)


def _show_alone(visit: Visit, model: SharedModel, each: Analysed) -> None:
    _show(model, each)
    offer_to_keep(visit, [each])


def _show(model: SharedModel, each: Analysed) -> None:
    key = each.upload.file_id
    with st.container(border=True):
        st.text(each.name)
        answer = each.answer
        show_outcome(answer.outcome.value, _advice(answer))
        if answer.reason is not None:
            st.caption(plain(f"In detail: {answer.reason}"))
        if answer.warnings:
            st.caption(plain(f"Of the file: {joined(answer.warnings)}"))
        if len(answer.frames) > 1:
            _side_by_side(_picked(each, key), partial(_show_frame, model))
        elif each.shown is not None:
            _show_frame(model, each)
        else:
            return
        if answer.orientation != 1:
            st.caption(
                "Turned upright by the orientation that the file states (EXIF); boxes are of the upright picture."
            )
        facts = {"Model": answer.model_version or "-", "Time": f"{answer.seconds or 0:.2f} s"}
        if answer.header is not None:
            facts["Body part"] = answer.header.body_part_examined or "not said"
        st.text("\n".join(f"{name}: {value}" for name, value in facts.items()))


def _advice(answer: FileResult) -> str | None:
    """Return what to make of an answer; of an unclear one also the reason, in the words of a study's page."""
    advice = ADVICE.get(answer.outcome)
    if answer.outcome is not Outcome.INCONCLUSIVE:
        return advice
    return f"{study_outcome(answer.frames).reason}. {advice}"


def _picked(each: Analysed, key: str) -> list[Analysed]:
    """Return the frame that the visitor has chosen, and another one beside it if they want to compare."""
    frame = _pick_frame(each.answer, key)
    others = [other for other in each.answer.frames if other != frame]
    place = st.selectbox(
        "Frame beside it",
        range(len(others)),
        index=None,
        placeholder="none: choose one to compare",
        format_func=lambda place: _frame_words(others[place], is_gravest=others[place] == each.answer.frame),
        key=f"beside-{key}-{frame.frame_number}",
    )
    shown = [at_frame(each, frame)]
    return shown if place is None else [*shown, at_frame(each, others[place], BESIDE)]


def _show_frame(model: SharedModel, each: Analysed) -> None:
    frame = each.shown
    assert frame is not None  # noqa: S101 - the caller looked
    if len(each.answer.frames) > 1:
        st.text(f"Frame {frame.frame_number}")
    if frame.probability is not None:
        points = model.manifest.decision.build()
        show_probability(frame.probability, points)
        if frame.outcome is Outcome.INCONCLUSIVE and frame.probability < points.low:
            st.caption("The pointer is in the green part, yet a box was found: classifier and detector disagree.")
    if each.grey is not None:
        _show_picture(each, frame, model, f"{each.upload.file_id}-{frame.frame_number}")
    elif len(each.answer.frames) > 1:
        st.info("This frame cannot be shown: it could not be decoded.")


def _pick_frame(answer: FileResult, key: str) -> ImageOutcome:
    """Let the visitor choose a frame, the gravest at first; say of each what was found, and list all of them."""
    frames = answer.frames
    gravest_at = next(place for place, each in enumerate(frames) if each == answer.frame)
    whole = len(frames) if answer.header is None else max(len(frames), answer.header.number_of_frames)
    if len(frames) < whole:
        st.warning(f"Frames {len(frames) + 1} to {whole} were not looked at: the one before could not be decoded.")
    place = st.selectbox(
        f"Frame shown (the image has {whole}; the answer above is that of the gravest)",
        range(len(frames)),
        index=gravest_at,
        format_func=lambda place: _frame_words(frames[place], is_gravest=place == gravest_at),
        key=f"frame-{key}",
    )
    with st.expander("All frames in a list"):
        rows = [
            Row((str(each.frame_number), outcome_words(each.outcome.value), _probability(each), str(len(each.boxes))))
            for each in frames
        ]
        show_rows("Frames of the image", ("Frame", "Outcome", "Probability", "Boxes"), rows, f"frames-{key}")
    return frames[gravest_at if place is None else place]


def _frame_words(frame: ImageOutcome, *, is_gravest: bool) -> str:
    words = f"Frame {frame.frame_number}: {answer_words(frame.outcome.value, frame.probability)}"
    return f"{words} (the gravest)" if is_gravest else words


def _probability(frame: ImageOutcome) -> str:
    return "-" if frame.probability is None else f"{frame.probability:.2f}"


def _show_picture(each: Analysed, frame: ImageOutcome, model: SharedModel, key: str) -> None:
    layers = choose_layers(
        plain(each.name) + (f", frame {frame.frame_number}" if len(each.answer.frames) > 1 else ""), key
    )
    assert each.grey is not None  # noqa: S101 - the caller looked
    pixels = each.grey.astype(np.float32) / np.float32(65535)
    analysed_so = frame.probability is not None
    heat = heat_or_reason(lambda: heat_of(each, model), analysed=analysed_so) if layers.heat else None
    grey = _windowed(each, frame, key)
    of_many = f"frame {frame.frame_number}, " if len(each.answer.frames) > 1 else ""
    words = f"Radiograph, {of_many}{frame.outcome.value}, {spoken(len(frame.boxes), layers, heated=heat is not None)}"
    picture = ViewerImage(
        np.rint((pixels if grey is None else grey) * 255).astype(np.uint8),
        frame.boxes if layers.boxes else (),
        words,
        each.answer.aspect,
        heat,
        dashed=frame.outcome is Outcome.INCONCLUSIVE,
    )
    show_picture(picture, f"viewer-{key}")
    if heat is not None:
        say_what_heat_is()
    show_scores(frame.boxes)


def _windowed(each: Analysed, frame: ImageOutcome, key: str) -> NDArray[np.float32] | None:
    """Return the frame through the visitor's own window, None where they have set none: the answer is not about it."""
    header = each.answer.header
    if header is None or header.photometric_interpretation not in MONOCHROME:
        return None
    with st.expander("Window"):
        if not st.toggle("Another window than the file's", key=f"window-{key}"):
            return None
        levels = levels_of(each, frame)
        centre, width, function = levels.window
        values = levels.values[~levels.background]
        low, high = min(float(values.min()), centre), max(float(values.max()), centre)
        step = 1.0 if high - low >= 100 else (high - low) / 100
        least = 1.0 if function == "LINEAR" else step
        centre = st.slider("Level", low, high, centre, step, "%g", key=f"level-{key}")
        width = st.slider("Width", least, max(2 * (high - low), width), width, step, "%g", key=f"width-{key}")
        return levels.windowed(centre, width)
