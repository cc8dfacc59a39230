"""Archive night: how far the re-analysis is, how long it will take, what the new model says differently."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from worker.db.base import utc_now
from worker.operate.model_changes import ChangeRow, changes, earlier_model
from worker.reanalysis.estimate import RunProgress, estimate_store, progress, yet_to_take_up
from worker.reanalysis.runs import STORE, RunView, change_state, load
from worker.ui.rows import Row, show_rows
from worker.ui.visit import Visit
from worker.ui.words import duration, moment, outcome_words

REFRESH = timedelta(seconds=10)
SHOWN_RUNS, SHOWN_CHANGES = 10, 25
KINDS = {
    "newly_suspected": "New possible fracture",
    "newly_inconclusive": "Newly unclear",
    "no_longer_suspected": "No longer a possible fracture",
    "other": "Changed otherwise",
}
COLUMNS = ("Change", "Before", "Now", "Probability", "Patient", "Accession", "Answered")


def show(visit: Visit, study_page: StreamlitPage) -> None:
    """Show the page."""
    st.title("Archive night")
    visit.record_view_once("archive night")
    _runs(visit)
    st.subheader("What changed")
    _changes(visit, study_page)


@st.fragment(run_every=REFRESH)
def _runs(visit: Visit) -> None:
    runs = progress(visit.database, limit=SHOWN_RUNS)
    if not runs:
        st.info("The archive was not analysed again yet. An operator begins it with bonewatch reanalyze start, or a "
                "timetable does (BONEWATCH_REANALYSIS_CRONTAB).")  # fmt: skip
    going = [run for run in runs if run.finished_at is None]
    for run in going:
        with st.container(border=True):
            _going(visit, run)
    ended = [run for run in runs if run.finished_at is not None]
    if ended:
        st.subheader("Earlier runs")
        cells = [
            (f"Run {run.run_id}", moment(run.finished_at), run.state, run.source, run.model_version,
             str(run.done), str(run.failed), run.reason or "-")
            for run in ended
        ]  # fmt: skip
        columns = ("Run", "Ended", "How", "From", "Model", "Done", "Failed", "Why")
        show_rows("Earlier runs, newest first", columns, [Row(each) for each in cells], "runs")


def _going(visit: Visit, run: RunProgress) -> None:
    ended = run.done + run.failed
    st.markdown(f"**Run {run.run_id}: {run.state}**")
    st.text(f"From {run.source} with model {run.model_version}; asked for by {run.asked_by}, {moment(run.created_at)}")
    if run.reason:
        st.text(run.reason)
    st.progress(ended / max(1, run.taken_up), f"{ended} of {run.taken_up} studies taken up so far are answered")
    fetched = "" if run.source == STORE else f", {run.to_retrieve} to be fetched, {run.retrieved} just fetched"
    st.text(f"{run.done} done, {run.failed} failed, {run.queued} wait for analysis{fetched}")
    to, label = ("running", "Resume") if run.state == "paused" else ("paused", "Pause")
    left, right = st.columns(2)
    more = ". Studies that a worker has begun are finished."
    if visit.operator_button(label, more, left, key=f"{to}-{run.run_id}", width="stretch"):
        visit.pressed(f"{label.lower()} re-analysis {run.run_id}")
        if change_state(visit.database, run.run_id, to, who=visit.name, now=utc_now()):
            st.rerun(scope="fragment")
        st.warning("This run has ended or changed meanwhile.")
    forecast = f"forecast-{run.run_id}"
    if right.button("How much is left?", key=f"left-{run.run_id}", width="stretch"):
        visit.pressed(f"how much is left of re-analysis {run.run_id}")
        st.session_state[forecast] = _forecast(visit, run, load(visit.database, run.run_id))
    if forecast in st.session_state:  # kept: a press is gone when the page is looked up anew
        st.text(st.session_state[forecast])


def _forecast(visit: Visit, run: RunProgress, view: RunView) -> str:
    """Say what is left: counted in our own store; of another archive only what was taken up is known."""
    request, processes = yet_to_take_up(view), visit.settings.analysis_processes
    found = estimate_store(visit.database, request, model_version=run.model_version, processes=processes)
    waiting = run.taken_up - run.done - run.failed
    studies = found.studies + waiting if run.source == STORE else waiting
    now = datetime.now().astimezone()
    if found.seconds_per_study is None:
        return (
            f"At {now:%H:%M:%S} {studies} studies are left; no analysis was measured yet, so nobody knows how long "
            "that takes."
        )
    seconds = studies * found.seconds_per_study / found.processes
    end = moment(now + timedelta(seconds=seconds))
    known = "" if run.source == STORE else " (of those taken up so far)"
    return (
        f"At {now:%H:%M:%S} {studies} studies are left{known}: about {duration(seconds)} of analysis at "
        f"{found.seconds_per_study:.2f} s a study, {found.processes} at a time, until {end} where nothing of "
        "today comes between."
    )


def _changes(visit: Visit, study_page: StreamlitPage) -> None:
    newest = next(iter(progress(visit.database, limit=1)), None)
    later = newest.model_version if newest else None
    earlier = earlier_model(visit.database, later) if later else None
    if later is None or earlier is None:
        st.text("Only one model has answered so far: nothing to compare.")
        return
    st.text(f"What {later} says differently from {earlier}, new possible fractures first.")
    found = list(islice(changes(visit.database, earlier, later, limit=SHOWN_CHANGES + 1), SHOWN_CHANGES + 1))
    if not found:
        st.text("No study has another outcome.")
        return
    rows = [Row(_cells(visit, each), each.study_instance_uid, each.to_outcome) for each in found[:SHOWN_CHANGES]]
    chosen = show_rows("Studies with another outcome", COLUMNS, rows, "changes")
    if len(found) > SHOWN_CHANGES:
        st.caption(f"The first {SHOWN_CHANGES}; bonewatch changes lists all.")
    if chosen is not None:
        st.switch_page(study_page, query_params={"uid": chosen})


def _cells(visit: Visit, row: ChangeRow) -> tuple[str, ...]:
    before, now = ("-" if value is None else f"{value:.2f}" for value in (row.from_probability, row.to_probability))
    return (
        KINDS.get(row.kind, row.kind),
        outcome_words(row.from_outcome),
        outcome_words(row.to_outcome),
        f"{before} → {now}",
        visit.patient(row.patient_id),
        row.accession_number or "-",
        moment(row.analysed_at),
    )
