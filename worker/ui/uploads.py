"""Uploaded images and what was said of them: analysed once, and another frame decoded when somebody looks at it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dicom_io.errors import DicomError
from dicom_io.pixels.frames import Levels, read_displayed, read_levels
from worker.files.analyze import AnalysisContext, FileResult, analyze_file
from worker.files.candidates import Kind, select
from worker.study.outcomes import ImageOutcome
from worker.ui.model import SharedModel
from worker.ui.visit import Visit

KNOWN = "analysed"
BESIDE = "beside"  # marks what is known of the frame beside the one that is looked at
KEPT = "kept"  # what came of ticks, see `worker.ui.keeping`


@dataclass(frozen=True, slots=True)
class Analysed:
    """An upload, what it is by its content, and what was said of it.

    `shown` is the frame looked at, the gravest at first; `grey` its image, 16 bits a pixel to save memory, None where
    there is none; `levels` the same before its window, once somebody has asked for another window; `heat` where the
    classifier looked, 8 bits a pixel, once somebody wanted to see it. `place` is empty, or `BESIDE` for a second frame
    that is compared with it. The images of all other frames are in the upload alone.
    """

    upload: Any
    kind: Kind
    answer: FileResult
    shown: ImageOutcome | None
    grey: NDArray[np.uint16] | None
    levels: Levels | None = None
    heat: NDArray[np.uint8] | None = None
    place: str = ""

    @property
    def key(self) -> str:
        """Under what it is known while the page is open."""
        return f"{self.upload.file_id}{self.place}"

    @property
    def name(self) -> str:
        """What the visitor's machine calls the file: it is only shown, what a file is, its content says."""
        return str(self.upload.name)


def analysed(visit: Visit, model: SharedModel, uploads: Sequence[Any]) -> list[Analysed]:
    """Analyse what is new among the uploads; what was taken away is forgotten."""
    known: dict[str, Analysed] = st.session_state.get(KNOWN, {})
    still_there = {each.file_id for each in uploads}
    kept = {key: each for key, each in known.items() if each.upload.file_id in still_there}
    waiting = [each for each in uploads if each.file_id not in kept]
    if waiting:
        visit.pressed(f"analyse {len(waiting)} uploads")
        bar = st.progress(0.0, "Analysing")
        for number, upload in enumerate(waiting):
            bar.progress(number / len(waiting), f"Analysing {number + 1} of {len(waiting)}")
            kept[upload.file_id] = _analyse(visit, model, upload)
        bar.empty()
    st.session_state[KNOWN] = kept
    return [kept[each.file_id] for each in uploads]


def forget_uploads() -> None:
    """Let go of what was uploaded: the visitor is on another page, and Streamlit would keep it until they leave."""
    st.session_state.pop(KNOWN, None)
    st.session_state.pop(KEPT, None)
    context = get_script_run_ctx()
    if context is not None:
        context.uploaded_file_mgr.remove_session_files(context.session_id)


def at_frame(analysed_file: Analysed, frame: ImageOutcome, place: str = "") -> Analysed:
    """Return the same with another frame shown, and keep it: a slider moved must not decode the image again."""
    known: dict[str, Analysed] = st.session_state[KNOWN]
    each = replace(analysed_file, place=place)
    before = known.get(each.key)
    if before is not None and before.shown == frame:
        return before
    with _on_disk(each.upload) as path, st.spinner("Decoding the frame"):
        try:
            found = read_displayed(path, frame.frame_number).pixels
        except (DicomError, OSError):  # the frame that no decoder could read: its answer says so
            found = None
    other = replace(each, shown=frame, grey=_grey(found), levels=None, heat=None)
    known[each.key] = other
    return other


def levels_of(each: Analysed, frame: ImageOutcome) -> Levels:
    """Return the frame shown, of a monochrome image, before its window; decoded once."""
    if each.levels is not None:
        return each.levels
    with _on_disk(each.upload) as path, st.spinner("Decoding the frame"):
        levels = read_levels(path, frame.frame_number)
    _learn(each, levels=levels)
    return levels


def heat_of(each: Analysed, model: SharedModel) -> NDArray[np.float32]:
    """Return where the classifier looked in the frame shown, (rows, columns), 0..1; asked once.

    Raises
    ------
    models.types.ImageError
        The classifier does not take this image.
    """
    if each.heat is None:
        assert each.grey is not None  # noqa: S101 - what is not shown has no layers to choose from
        heat = np.rint(model.explain(each.grey.astype(np.float32) / np.float32(65535)) * 255).astype(np.uint8)
        _learn(each, heat=heat)
    else:
        heat = each.heat
    return np.divide(heat, 255, dtype=np.float32)


def _learn(each: Analysed, **more: Any) -> None:
    """Keep more of an image than is known of it so far."""
    known: dict[str, Analysed] = st.session_state[KNOWN]
    known[each.key] = replace(known.get(each.key, each), **more)


def by_study(found: Sequence[Analysed]) -> list[list[Analysed]]:
    """Put images of one study together, in the order in which they were uploaded."""
    groups: dict[object, list[Analysed]] = {}
    for number, each in enumerate(found):
        header = each.answer.header
        groups.setdefault(number if header is None else header.study_instance_uid, []).append(each)
    return list(groups.values())


def _analyse(visit: Visit, model: SharedModel, upload: Any) -> Analysed:
    """Analyse one upload by the way of `bonewatch analyze`."""
    with _on_disk(upload) as path:
        (candidate,) = select([path]).candidates
        answer = analyze_file(candidate, AnalysisContext(lambda: model, visit.settings.scope()))
    return Analysed(upload, candidate.kind, answer.without_pixels(), answer.frame, _grey(answer.pixels))


@contextmanager
def _on_disk(upload: Any) -> Iterator[Path]:
    """Have the upload on disk for as long as it is decoded."""
    with tempfile.TemporaryDirectory(prefix="bonewatch-upload-") as folder:
        path = Path(folder) / "upload"
        path.write_bytes(upload.getbuffer())
        yield path


def _grey(pixels: NDArray[np.float32] | None) -> NDArray[np.uint16] | None:
    return None if pixels is None else np.rint(pixels * 65535).astype(np.uint16)
