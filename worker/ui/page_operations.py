"""Operations: queues, schedulers, workers, disk, failures to do again by reason, deliveries that wait, PACS echo."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import streamlit as st

from dicom_io.types import Destination
from models.manifest import SHIPPED, read_manifest
from models.types import ModelError
from worker.db.base import utc_now
from worker.db.tables import OBJECT_NAMES
from worker.operate.checks import Verdict, check_destination
from worker.operate.failures import FailureGroup, failure_groups, retry_group
from worker.operate.status import Status, recent_workers, snapshot
from worker.queue.app import create_app
from worker.queue.presence import PRESENT_FOR
from worker.study.patients import WHAT_TO_DO
from worker.study.queues import CeleryQueue
from worker.ui.rows import Row, show_rows
from worker.ui.visit import Visit
from worker.ui.words import duration, moment

REFRESH = timedelta(seconds=10)
KINDS = {
    "analysis": "Analysis",
    "delivery": "Delivery",
    **{kind: name.capitalize() for kind, name in OBJECT_NAMES.items()},
}
MESSAGE = "retried"
NUMBER_WIDTH = 150
"""Pixels: two numbers stand side by side on a phone, all of them on a desk."""


def show(visit: Visit) -> None:
    """Show the page."""
    st.title("Operations")
    visit.record_view_once("operations")
    _now(visit)
    st.subheader("Failed, by reason")
    _failures(visit)
    st.subheader("PACS")
    _pacs(visit)


@st.fragment(run_every=REFRESH)
def _now(visit: Visit) -> None:
    found = snapshot(visit.database, CeleryQueue(create_app(visit.settings)))
    if found.queues is None:
        st.error("The broker does not answer.")
        st.text(found.broker_error or "")
    oldest = found.oldest_queued_at
    free = _free_bytes(visit.settings.store)
    numbers: dict[str, int | str] = {
        "Receiving": found.receiving,
        "Waiting": found.jobs.get("queued", 0),
        "Running": found.jobs.get("running", 0),
        "Oldest waits": "-" if oldest is None else duration((utc_now() - oldest).total_seconds()),
        "Refused in 24 h": found.rejections_24h,
        "Disk free": f"{free / 2**30:.1f} GiB",
    }
    with st.container(horizontal=True):
        for name, value in numbers.items():
            st.metric(name, value, width=NUMBER_WIDTH)
    if free < visit.settings.minimum_free_bytes:
        st.error("The disk is nearly full: nothing is received until there is room.")
    for title, counts in (
        ("Messages in the queues", found.queues or {}),
        ("Deliveries", found.deliveries),
        ("Outcomes in 24 h", found.outcomes),
    ):
        st.text(f"{title}: {_counts(counts)}")
    _decisions(found)
    _schedulers(found)
    _workers(visit, found)
    _waiting(found)


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word} {count}" for word, count in counts.items()) or "none"


def _decisions(found: Status) -> None:
    if not found.held:
        return
    st.subheader("Waiting for a decision")
    st.warning(f"{found.held} studies are not analysed: {WHAT_TO_DO}.")
    rows = [
        (each.study_instance_uid, each.accession_number or "-", moment(each.since), each.reason,
         "yes" if each.reported else "no")
        for each in found.held_studies
    ]  # fmt: skip
    columns = ("Study", "Accession number", "Since", "Why", "Earlier report")
    _table("Waiting for a decision", columns, rows, "Nothing waits for a decision.")


def _schedulers(found: Status) -> None:
    st.subheader("Schedulers")
    if not found.schedulers:
        st.warning(
            f"No scheduler was seen in the last {PRESENT_FOR.total_seconds():.0f} s. Until one runs (`bonewatch up` or "
            "`bonewatch schedule`), studies stay 'receiving' and nothing is tried again."
        )
        return
    rows = [Row((each.name, moment(each.seen_at))) for each in found.schedulers]
    show_rows("Schedulers", ("Scheduler", "Last seen"), rows, "Schedulers")


def _workers(visit: Visit, found: Status) -> None:
    st.subheader("Workers")
    # A worker writes nothing into the database while it has nothing to do.
    st.caption("Who finished an analysis in the last hour or is at one now. Workers without work are not listed.")
    rows = [
        (worker.name, str(worker.finished), moment(worker.last_at), _held(found, worker.name))
        for worker in recent_workers(visit.database)
    ]
    known = {row[0] for row in rows}
    rows += [
        (name, "0", "-", _held(found, name))
        for name in sorted({job.claimed_by or "-" for job in found.running} - known)
    ]
    _table("Workers", ("Worker", "Finished in the last hour", "Last", "Analyses now"), rows,
           "No worker has finished anything in the last hour, and none is at work.")  # fmt: skip


def _held(found: Status, worker: str) -> str:
    jobs = [job for job in found.running if (job.claimed_by or "-") == worker]
    return ", ".join(f"job {job.job_id} since {moment(job.started_at)}, attempt {job.attempts}" for job in jobs) or "-"


def _waiting(found: Status) -> None:
    st.subheader("Waiting for a reason")
    rows = [("Analysis", str(count), reason) for reason, count in found.waiting_with_reason]
    rows += [("Delivery", str(count), reason) for reason, count in found.deliveries_waiting_with_reason]
    _table("Waiting for a reason", ("What", "How many", "Why"), rows, "Nothing is held back.")


def _table(words: str, columns: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    if rows:
        show_rows(words, columns, [Row(cells) for cells in rows], words)
    else:
        st.text(nothing)


def _failures(visit: Visit) -> None:
    if (done := st.session_state.pop(MESSAGE, None)) is not None:
        st.success(done)
    groups = failure_groups(visit.database)
    if not groups:
        st.text("Nothing has failed.")
    for group in groups:
        with st.container(border=True):
            _failure(visit, group)


def _failure(visit: Visit, group: FailureGroup) -> None:
    words, button = st.columns([4, 1], vertical_alignment="center")
    words.text(f"{KINDS[group.kind]}: {group.count}, the last {moment(group.newest_at)}")
    words.text(group.reason or "no reason was recorded")
    if group.kind == "capture" or group.kind == "presentation":  # noqa: PLR1714 - mypy narrows by this alone
        words.caption(
            "The reports are there all the same, and pictures are made with their report only. Mend the cause, then "
            "press *Analyse again* on the page of each study: `bonewatch status` names the newest."
        )
        return
    key = hashlib.sha256(f"{group.kind}{group.reason}".encode()).hexdigest()
    if not visit.operator_button(f"Do {group.count} again", ".", button, key=key):
        return
    visit.pressed(f"retry {group.kind}: {group.reason}")
    try:
        version = read_manifest(visit.settings.installed_bundle() or SHIPPED).version
    except ModelError as error:
        st.error(str(error))
        return
    made = retry_group(visit.database, group.kind, group.reason, model_version=version, now=utc_now())
    # What has failed for the same reason since it was counted is begun again with the others.
    st.session_state[MESSAGE] = f"Begun again: {made} of {max(made, group.count)}."
    st.rerun()


def _pacs(visit: Visit) -> None:
    destinations = visit.settings.destinations_tuple()
    if not destinations:
        st.text("No destination is set: reports are kept and sent nowhere (BONEWATCH_DESTINATIONS).")
    for destination in destinations:
        more = ": C-ECHO, and which reports it accepts."
        if visit.operator_button(f"Call {destination.name}", more, key=f"echo-{destination.name}"):
            _call(visit, destination)


def _call(visit: Visit, destination: Destination) -> None:
    visit.pressed(f"echo {destination.name}")
    with st.spinner(f"Calling {destination.name}"):
        found = check_destination(destination, visit.settings)
    if found.verdict is Verdict.GOOD:
        st.success("It answers.")
    else:
        st.error("It does not work.")
    st.text("\n".join(filter(None, (found.found, found.advice))))
