"""Worklist: the newest studies first, filters in the address line, one page at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from dicom_io.types import Outcome
from worker.results import ResultFilter, ResultRow, results
from worker.ui.visit import Visit
from worker.ui.words import OUTCOMES, duration, moment, outcome_words

PAGE_SIZE = 25
REFRESH = timedelta(seconds=10)
EVERYTHING = "all"
FIELDS = {"patient": "Patient ID", "accession": "Accession number", "model": "Model (or its beginning)"}
LONGEST_WORD = 64


def show(visit: Visit, study_page: StreamlitPage) -> None:
    """Show the page."""
    st.title("Worklist")
    _filters()
    visit.looked(f"worklist {sorted(st.query_params)}")
    _table(visit, study_page)


def _filters() -> None:
    """Show the filters; each stands in the address, so that a bookmark is the same view."""
    words = {EVERYTHING: "All", **{name: " ".join(text) for name, text in OUTCOMES.items()}}
    asked = st.query_params.get("outcome", EVERYTHING)
    chosen = st.segmented_control(
        "Outcome", list(words), format_func=words.__getitem__, default=asked if asked in words else EVERYTHING
    )
    _remember("outcome", None if chosen in (None, EVERYTHING) else chosen)
    columns = st.columns([*[2] * len(FIELDS), 1])
    for column, (name, label) in zip(columns, FIELDS.items(), strict=False):
        with column:
            given = st.text_input(label, st.query_params.get(name, ""), max_chars=LONGEST_WORD, key=f"filter-{name}")
            _remember(name, given.strip() or None)
    with columns[-1]:
        days = st.selectbox("Since", ["ever", "1", "7", "30"], format_func=_days, index=_since_index())
        _remember("days", None if days == "ever" else days)


def _since_index() -> int:
    known = ["ever", "1", "7", "30"]
    asked = st.query_params.get("days", "ever")
    return known.index(asked) if asked in known else 0


def _days(word: str) -> str:
    return "ever" if word == "ever" else "today" if word == "1" else f"{word} days"


def _remember(name: str, value: str | None) -> None:
    """Put a filter into the address; another filter begins at the first page."""
    if st.query_params.get(name) == value:
        return
    st.query_params.pop("below", None)
    if value is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = value


def _wanted() -> ResultFilter:
    asked = st.query_params
    outcome, days = asked.get("outcome"), asked.get("days")
    return ResultFilter(
        outcome=Outcome(outcome) if outcome in set(Outcome) else None,
        patient_id=asked.get("patient"),
        accession_number=asked.get("accession"),
        model=asked.get("model"),
        since=None if days not in ("1", "7", "30") else datetime.now().astimezone() - timedelta(days=int(days)),
    )


@st.fragment(run_every=REFRESH)
def _table(visit: Visit, study_page: StreamlitPage) -> None:
    asked = st.query_params.get("below", "")
    below = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 18 else None
    rows = list(islice(results(visit.database, _wanted(), below=below), PAGE_SIZE + 1))
    if not rows:
        st.info("No study matches." if below is None else "No older study matches.")
    else:
        _show_rows(visit, rows[:PAGE_SIZE], study_page)
    back, onward = st.columns(2)
    if below is not None and back.button("◀ Newest", width="stretch"):
        st.query_params.pop("below", None)
        st.rerun()
    if len(rows) > PAGE_SIZE and onward.button("Older ▶", width="stretch"):
        st.query_params["below"] = str(rows[PAGE_SIZE - 1].study_id)
        st.rerun()
    st.caption(f"As of {datetime.now().astimezone():%H:%M:%S}; refreshed every {REFRESH.seconds} s.")


def _show_rows(visit: Visit, rows: list[ResultRow], study_page: StreamlitPage) -> None:
    chosen = st.dataframe(
        [_cells(visit, row) for row in rows],
        hide_index=True,
        on_select="rerun",
        selection_mode="single-cell",
        height="content",
        column_config={"Probability": st.column_config.NumberColumn(format="%.3f")},
        key=f"rows-{rows[0].study_id}",
    )
    places = chosen["selection"]["cells"]
    if places:
        st.switch_page(study_page, query_params={"uid": rows[places[0][0]].study_instance_uid})
    st.caption("Select a row to see the study.")


def _cells(visit: Visit, row: ResultRow) -> dict[str, Any]:
    return {
        "Outcome": outcome_words(row.outcome),
        "Probability": row.probability,
        "Patient": visit.patient(row.patient_id),
        "Accession": row.accession_number or "-",
        "Body part": row.body_part or "-",
        "Boxes": row.findings,
        "Report": row.report_state,
        "Received": moment(row.received_at),
        "Turnaround": duration(row.turnaround_seconds),
        "Model": row.model_version or "-",
    }
