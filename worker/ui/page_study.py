"""One study: images with boxes and report of its newest answer or of one chosen, its way from the PACS and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dicom_io.errors import DicomError
from dicom_io.report.outline import report_outline
from models.decision import OperatingPoints
from models.manifest import SHIPPED, read_manifest
from models.types import ModelError
from worker.db.tables import OBJECT_NAMES, Companion, Delivery, Job
from worker.errors import FilesDeleted, StudyHeld, UnknownStudy
from worker.operate.retries import can_send_again, retry_study, revive_deliveries
from worker.storage.stores import store_of
from worker.study.patients import WHAT_TO_DO
from worker.ui.answer import show_outcome, show_probability
from worker.ui.downloads import offer_file
from worker.ui.report_tree import as_lists
from worker.ui.rows import Row, show_rows
from worker.ui.study_image import MOST_IMAGES, show_image
from worker.ui.study_view import Hop, StudyView, load_study, with_answer
from worker.ui.visit import Visit
from worker.ui.words import duration, moment, outcome_words

DICOM = "application/dicom"
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
    visit.record_view_once("study", found.result.study_id)
    _summary(visit, found)
    chosen = _chosen(visit, found)
    answer, way, reports, earlier = st.tabs(["Images", "Time line", "Report", "Answers of all models"])
    with answer:
        _images(visit, chosen)
    with way:
        _way(found)
    with reports:
        _report(visit, chosen)
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
    if result.held_reason is not None:
        st.warning(f"This study waits for a decision: {result.held_reason}. What to do: {WHAT_TO_DO}.")
    if result.update_pending:
        st.info("A newer answer is on its way.")
    with st.container(horizontal=True):
        if can_send_again(visit.database, result.study_instance_uid) and visit.operator_button(
            "Send again", ": the same report, to where it did not arrive."
        ):
            _send_again(visit, found)
        if visit.operator_button("Analyse again", ": a new job with the present model."):
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
    except (FilesDeleted, StudyHeld, UnknownStudy, ModelError) as error:
        st.error(str(error))
        return
    st.success("Planned.") if made else st.info("An analysis is waiting or running already, or images still arrive.")


def _chosen(visit: Visit, found: StudyView) -> StudyView:
    """Let an answer be chosen where there are several; return the study with what that one said."""
    answers = {job.id: job for job in found.answers}
    if len(answers) < 2:
        return found
    newest = next(iter(answers))
    # With a newer answer the choice is another one and begins anew: nobody is left with an old one unawares.
    job_id = st.selectbox(
        "Images and report of", answers, format_func=lambda each: _name(answers[each]), key=f"answer-{newest}"
    )
    if job_id == newest:
        return found
    st.info("Images and report are those of an earlier answer, not of the one above.")
    return with_answer(visit.database, found, answers[job_id])


def _name(job: Job) -> str:
    """Name an answer; the job's number keeps two of one second apart, and is that of the time line."""
    return f"{moment(job.finished_at)}, {job.model_version}: {outcome_words(job.outcome)} (job {job.id})"


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
            show_image(visit, found, by_id[image.instance_id], image, start + number + 1)


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
    offer_file(
        "Structured report (DICOM)",
        lambda: _file(visit, path, found),
        f"{report.sop_instance_uid}.dcm",
        DICOM,
    )
    for companion in report.companions:
        _companion(visit, companion, found)
    st.html(as_lists(lines))


def _deliveries(deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        st.text(f"{delivery.destination}: {delivery.state}" + (f" ({delivery.reason})" if delivery.reason else ""))


def _companion(visit: Visit, companion: Companion, found: StudyView) -> None:
    """Offer a picture that goes with the report, or say why there is none."""
    name = f"{OBJECT_NAMES[companion.kind].capitalize()} {companion.number}"
    if companion.path is None or companion.file_deleted_at is not None:
        st.text(f"{name}: {companion.reason or 'its file was deleted here after every PACS had committed it'}")
        return
    relative = companion.path
    offer_file(
        f"{name} (DICOM)",
        lambda: _file(visit, store_of(visit.settings).path(relative), found),
        f"{companion.sop_instance_uid}.dcm",
        DICOM,
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
