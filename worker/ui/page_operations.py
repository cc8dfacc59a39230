"""Operations: queues, workers, disk, failures to do again, deliveries that wait, the archive's night, PACS echo."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import streamlit as st

from models.manifest import SHIPPED, read_manifest
from models.types import ModelError
from worker.app import create_app
from worker.checks import Verdict, check_destination
from worker.queues import CeleryQueue
from worker.reanalysis_estimate import RunProgress, progress
from worker.reanalysis_runs import change_state
from worker.retries import retry_failed, revive_deliveries
from worker.status import Status, snapshot
from worker.table_base import utc_now
from worker.ui.visit import Visit
from worker.ui.words import duration, moment

REFRESH = timedelta(seconds=10)


def show(visit: Visit) -> None:
    """Show the page."""
    st.title("Operations")
    visit.looked("operations")
    _now(visit)
    st.subheader("Archive")
    _archive(visit)
    st.subheader("PACS")
    _pacs(visit)


@st.fragment(run_every=REFRESH)
def _now(visit: Visit) -> None:
    found = snapshot(visit.database, CeleryQueue(create_app(visit.settings)))
    if found.queues is None:
        st.error("The broker does not answer.")
        st.text(found.broker_error or "")
    oldest = found.oldest_queued_at
    numbers: dict[str, int | str] = {
        "Receiving": found.receiving,
        "Waiting": found.jobs.get("queued", 0),
        "Running": found.jobs.get("running", 0),
        "Oldest waits": "-" if oldest is None else duration((utc_now() - oldest).total_seconds()),
        "Refused in 24 h": found.rejections_24h,
        "Disk free": f"{_free_gibibytes(visit.settings.store):.1f} GiB",
    }
    for column, (name, value) in zip(st.columns(len(numbers)), numbers.items(), strict=True):
        column.metric(name, value)
    for title, counts in (
        ("Messages", found.queues or {}),
        ("Deliveries", found.deliveries),
        ("Outcomes", found.outcomes),
    ):
        st.text(f"{title}: {_counts(counts)}")
    _workers(found)
    _waiting(found)
    _failures(visit, found)


def _free_gibibytes(folder: Path) -> float:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word} {count}" for word, count in counts.items()) or "none"


def _workers(found: Status) -> None:
    if found.running:
        rows = [
            {
                "Job": job.job_id,
                "Worker": job.claimed_by or "-",
                "Since": moment(job.started_at),
                "Attempt": job.attempts,
            }
            for job in found.running
        ]
        st.dataframe(rows, hide_index=True, height="content")


def _waiting(found: Status) -> None:
    rows = [{"What": "analysis", "How many": count, "Why": reason} for reason, count in found.waiting_with_reason]
    rows += [
        {"What": "delivery", "How many": count, "Why": reason} for reason, count in found.deliveries_waiting_with_reason
    ]
    if rows:
        st.markdown("**Waiting, and why**")
        st.dataframe(rows, hide_index=True, height="content")


def _failures(visit: Visit, found: Status) -> None:
    st.markdown("**Failed, newest first**")
    if not found.failures:
        st.text("Nothing has failed.")
        return
    rows = [
        {"When": moment(each.at), "What": each.kind, "Why": each.reason, "Study": each.study_instance_uid}
        for each in found.failures
    ]
    st.dataframe(rows, hide_index=True, height="content")
    if st.button("Do all that failed again", disabled=not visit.may_act, help="For operators."):
        visit.pressed("retry all failed")
        try:
            version = read_manifest(visit.settings.installed_bundle() or SHIPPED).version
        except ModelError as error:
            st.error(str(error))
            return
        revived = revive_deliveries(visit.database)
        made = len(retry_failed(visit.database, model_version=version))
        st.success(f"New analyses planned: {made}; deliveries revived: {revived}.")


def _archive(visit: Visit) -> None:
    runs = progress(visit.database, limit=10)
    if not runs:
        st.text("The archive was not analysed again yet (bonewatch reanalyze, or BONEWATCH_REANALYSIS_CRONTAB).")
    for run in runs:
        with st.container(border=True):
            _run(visit, run)


def _run(visit: Visit, run: RunProgress) -> None:
    ended = run.done + run.failed
    st.text(
        f"Run {run.run_id} over {run.source}, model {run.model_version}: {run.state}"
        + (f" ({run.reason})" if run.reason else "")
    )
    st.progress(ended / max(1, run.taken_up), f"{run.done} of {run.taken_up} studies done, {run.failed} failed")
    if run.finished_at is None and ended:
        spent = (datetime.now(run.created_at.tzinfo) - run.created_at).total_seconds()
        st.caption(f"At this pace the studies taken up so far need {duration(spent / ended * run.queued)} more.")
    if run.finished_at is None:
        to = "running" if run.state == "paused" else "paused"
        label = "Resume" if to == "running" else "Pause"
        if st.button(label, key=f"run-{run.run_id}", disabled=not visit.may_act, help="For operators."):
            visit.pressed(f"{label.lower()} re-analysis {run.run_id}")
            change_state(visit.database, run.run_id, to, who=visit.name, now=utc_now())
            st.rerun()


def _pacs(visit: Visit) -> None:
    destinations = visit.settings.destinations_tuple()
    if not destinations:
        st.text("No destination is set: reports are kept and sent nowhere (BONEWATCH_DESTINATIONS).")
    for destination in destinations:
        if st.button(f"Call {destination.name}", key=f"echo-{destination.name}", disabled=not visit.may_act):
            visit.pressed(f"echo {destination.name}")
            found = check_destination(destination)
            (st.success if found.verdict is Verdict.GOOD else st.error)(
                "It answers." if found.verdict is Verdict.GOOD else "Not good."
            )
            st.text(f"{found.found} {found.advice}")
