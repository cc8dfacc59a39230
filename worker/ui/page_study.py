"""One study: its images with boxes, its way from the PACS and back, its reports, and earlier answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from dicom_io.drawing import mark_image, result_lines
from dicom_io.errors import DicomError
from dicom_io.pixels import read_displayed
from dicom_io.report_outline import report_outline
from dicom_io.types import Box, Outcome, ReportedImage
from models.decision import OperatingPoints
from models.manifest import SHIPPED, read_manifest
from models.types import ModelError
from worker.companion_tables import NAMES, Companion
from worker.errors import FilesDeleted, UnknownStudy
from worker.retries import can_send_again, retry_study, revive_deliveries
from worker.settings import Settings
from worker.stores import store_of
from worker.tables import Delivery, ImageResult, Instance
from worker.ui.answer import show_outcome, show_probability
from worker.ui.layers import choose_layers, say_what_heat_is
from worker.ui.model import current_model
from worker.ui.report_tree import as_lists
from worker.ui.rows import Row, show_rows
from worker.ui.study_view import Hop, StudyView, load_study
from worker.ui.viewer import Picture, ShownBox, show_image
from worker.ui.visit import Visit
from worker.ui.words import duration, moment, outcome_words

MOST_IMAGES = 12
STAY: Literal["ignore"] = "ignore"
"""What a download does to the page. Drawing it anew would take back what the browser is just about to fetch."""
FIRST = "image"
"""In the address: the place of the first image shown, the gravest is 1."""


def show(visit: Visit) -> None:
    """Show the page."""
    st.title("Study")
    uid = st.query_params.get("uid", "").strip()
    if not uid:
        uid = st.text_input("Study Instance UID", max_chars=64).strip()
    if not uid:
        st.info("Select a study in the worklist, or enter its UID.")
        return
    found = load_study(visit.database, uid)
    if found is None:
        st.warning("Nobody has sent a study of this UID.")
        return
    visit.looked("study", found.result.study_id)
    _summary(visit, found)
    answer, way, reports, earlier = st.tabs(["Images", "Time line", "Report", "Answers of all models"])
    with answer:
        _images(visit, found)
    with way:
        _way(found)
    with reports:
        _report(visit, found)
    with earlier:
        _answers(found)


def _summary(visit: Visit, found: StudyView) -> None:
    result = found.result
    show_outcome(result.outcome or "waiting", result.reason)
    points = _points(visit, result.model_version)
    if result.probability is not None and points is not None:
        show_probability(result.probability, points)
    facts = {
        "Patient": visit.patient(result.patient_id),
        "Accession number": result.accession_number or "-",
        "Study date": result.study_date or "-",
        "Body part": result.body_part or "-",
        "Model": result.model_version or "-",
        "Report": result.report_state + (f": {result.report_reason}" if result.report_reason else ""),
    }
    st.text("\n".join(f"{name}: {value}" for name, value in facts.items()))
    if result.update_pending:
        st.info("A newer answer is on its way.")
    with st.container(horizontal=True):
        if can_send_again(visit.database, result.study_instance_uid) and visit.offers(
            "Send again", ": the same report, to where it did not arrive."
        ):
            _send_again(visit, found)
        if visit.offers("Analyse again", ": a new job with the present model."):
            _analyse_again(visit, found)


def _points(visit: Visit, version: str | None) -> OperatingPoints | None:
    """Return the operating points, where the model that answered is still the one in use."""
    try:
        manifest = read_manifest(visit.settings.installed_bundle() or SHIPPED)
    except ModelError:
        return None
    return manifest.decision.build() if manifest.version == version else None


def _send_again(visit: Visit, found: StudyView) -> None:
    visit.pressed("send again", found.result.study_id)
    revive_deliveries(visit.database, study_instance_uid=found.result.study_instance_uid)
    st.success("Its report will be sent again.")


def _analyse_again(visit: Visit, found: StudyView) -> None:
    visit.pressed("analyse again", found.result.study_id)
    try:
        version = read_manifest(visit.settings.installed_bundle() or SHIPPED).version
        made = retry_study(visit.database, found.result.study_instance_uid, model_version=version)
    except (FilesDeleted, UnknownStudy, ModelError) as error:
        st.error(str(error))
        return
    st.success("Planned.") if made else st.info("An analysis is waiting or running already, or images still arrive.")


def _way(found: StudyView) -> None:
    columns = ("When", "What", "After")
    show_rows("Time line", columns, [Row(_hop(hop)) for hop in found.way], "way")
    took = (found.way[-1].at - found.way[0].at).total_seconds()
    st.text(f"From the first step to the last: {duration(took)}")
    with st.expander("All that was recorded"):
        show_rows(
            "All that was recorded", ("When", "What", "After"), [Row(_hop(hop)) for hop in found.events], "events"
        )


def _hop(hop: Hop) -> tuple[str, ...]:
    return moment(hop.at), hop.what, "-" if hop.seconds is None else f"+ {duration(hop.seconds)}"


def _images(visit: Visit, found: StudyView) -> None:
    by_id = {instance.id: instance for instance in found.instances}
    if not found.images:
        st.info("No image of this study was analysed.")
    start = _first_shown(len(found.images))
    shown = found.images[start : start + MOST_IMAGES]
    if len(shown) < len(found.images):
        _paging(visit, found, start)
    columns = st.columns(2) if len(found.images) > 1 else [st.container()]
    for number, image in enumerate(shown):
        with columns[number % len(columns)]:
            _image(visit, by_id[image.instance_id], image, found)


def _first_shown(images: int) -> int:
    """Return where the page of images begins that the address asks for, 0 the gravest; nonsense is the first page."""
    asked = st.query_params.get(FIRST, "")
    place = int(asked) - 1 if asked.isascii() and asked.isdigit() and len(asked) < 10 else 0
    return place // MOST_IMAGES * MOST_IMAGES if 0 <= place < images else 0


def _paging(visit: Visit, found: StudyView, start: int) -> None:
    images = len(found.images)
    end = min(start + MOST_IMAGES, images)
    hidden = images - (end - start)
    st.caption(f"Images {start + 1} to {end} of {images}, the gravest first; {hidden} are not shown here.")
    with st.container(horizontal=True):
        for words, to in (("◀ Graver images", start - MOST_IMAGES), ("More images ▶", end)):
            if 0 <= to < images and st.button(words):
                visit.pressed(f"images from {to + 1} on", found.result.study_id)
                st.query_params[FIRST] = str(to + 1)
                st.rerun()


def _image(visit: Visit, instance: Instance, image: ImageResult, found: StudyView) -> None:
    boxes = tuple(
        Box(box.x1, box.y1, box.x2, box.y2, box.score)
        for box in found.boxes
        if box.sop_instance_uid == instance.sop_instance_uid and box.frame_number == image.frame_number
    )
    title = " ".join(filter(None, (instance.body_part_examined, instance.laterality, instance.view_position)))
    st.text(f"{title or 'Image'}, frame {image.frame_number}: {outcome_words(image.outcome)}")
    if image.reason:
        st.text(image.reason)
    if instance.file_deleted_reason is not None:
        st.info("The image's file was deleted here after its report was committed; the PACS holds it.")
        return
    try:
        grey, aspect = _decoded(visit.settings, instance.path, instance.digest, max(image.frame_number, 1))
    except (DicomError, OSError):
        st.warning("The image cannot be shown: its file is missing or cannot be decoded.")
        return
    drawn = [ShownBox(box.x1, box.y1, box.x2, box.y2, f"{box.score:.2f}") for box in boxes]
    layers = choose_layers(f"image-{image.id}")
    heat = _heat(visit, found, grey) if layers.heat else None
    words = f"Radiograph, {image.outcome}, {len(boxes)} boxes"
    show_image(Picture(grey, drawn if layers.boxes else [], words, aspect, heat), f"image-{image.id}")
    if heat is not None:
        say_what_heat_is()
    said = ReportedImage(Path(instance.path), image.frame_number, Outcome(image.outcome), image.probability, boxes)
    st.download_button(
        "Marked image (PNG)",
        lambda: _marked(visit, grey, aspect, said, found),
        file_name=f"marked-{image.id}.png",
        mime="image/png",
        key=f"marked-{image.id}",
        on_click=STAY,
    )


@st.cache_data(max_entries=MOST_IMAGES, show_spinner="Decoding the image")
def _decoded(_settings: Settings, relative: str, digest: str, number: int) -> tuple[NDArray[np.uint8], float]:
    """Return a frame, uint8 (rows, columns), and its pixels' height by width. Other contents have another `digest`."""
    frame = read_displayed(store_of(_settings).path(relative), number).frame
    return np.rint(frame.pixels * 255).astype(np.uint8), frame.aspect


def _heat(visit: Visit, found: StudyView, grey: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Return where the classifier of the answer looked, or say why that cannot be told."""
    try:
        model = current_model(visit.settings)
    except ModelError:
        st.info("There is no usable model here to draw the heat map with.")
        return None
    if model.version != found.result.model_version:
        st.info("Another model gave this answer than the one in use: where it looked cannot be shown.")
        return None
    return model.explain(np.divide(grey, 255, dtype=np.float32))


def _marked(visit: Visit, grey: NDArray[np.uint8], aspect: float, said: ReportedImage, found: StudyView) -> bytes:
    visit.pressed("download of a marked image", found.result.study_id)
    lines = result_lines(said, found.result.model_version or "")
    return mark_image(np.divide(grey, 255, dtype=np.float32), said.boxes, lines, aspect)


def _report(visit: Visit, found: StudyView) -> None:
    report = found.report
    if report is None or report.path is None:
        st.info("There is no report of this answer.")
        st.text(report.reason if report and report.reason else "")
        return
    _deliveries(report.deliveries)
    if report.file_deleted_at is not None:
        st.info("The report's file was deleted here after every PACS had committed it.")
        return
    try:
        path = store_of(visit.settings).path(report.path)
        lines = report_outline(path)
    except (DicomError, OSError):
        st.warning("The report's file is missing or cannot be read.")
        return
    st.download_button(
        "Structured report (DICOM)",
        lambda: _file(visit, path, found),
        file_name=f"{report.sop_instance_uid}.dcm",
        mime="application/dicom",
        on_click=STAY,
    )
    for companion in report.companions:
        _companion(visit, companion, found)
    st.html(as_lists(lines))


def _deliveries(deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        st.text(f"{delivery.destination}: {delivery.state}" + (f" ({delivery.reason})" if delivery.reason else ""))


def _companion(visit: Visit, companion: Companion, found: StudyView) -> None:
    """Offer a picture that goes with the report, or say why there is none."""
    name = f"{NAMES[companion.kind].capitalize()} {companion.number}"
    if companion.path is None or companion.file_deleted_at is not None:
        st.text(f"{name}: {companion.reason or 'its file was deleted here after every PACS had committed it'}")
        return
    relative = companion.path
    st.download_button(
        f"{name} (DICOM)",
        lambda: _file(visit, store_of(visit.settings).path(relative), found),
        file_name=f"{companion.sop_instance_uid}.dcm",
        mime="application/dicom",
        on_click=STAY,
    )
    _deliveries(companion.deliveries)


def _file(visit: Visit, path: Path, found: StudyView) -> bytes:
    visit.pressed("download of a report or of what goes with it", found.result.study_id)
    return path.read_bytes()


def _answers(found: StudyView) -> None:
    """Show what every model said, beside the answer shown above."""
    columns = ("Answered", "Model", "Outcome", "Probability", "Against the shown one", "Revision", "State", "Reason")
    shown = found.result
    rows = []
    for job in found.jobs:
        difference = "-"
        if job.id == shown.job_id:
            difference = "this is the shown one"
        elif job.probability is not None and shown.probability is not None:
            difference = f"{job.probability - shown.probability:+.2f}"
        probability = "-" if job.probability is None else f"{job.probability:.2f}"
        outcome = outcome_words(job.outcome)
        rows.append(
            Row((moment(job.finished_at), job.model_version, outcome, probability, difference, str(job.revision),
                 job.state, job.reason or "-"))
        )  # fmt: skip
    show_rows("Answers, newest first", columns, rows, "answers")
