"""Worklist: the newest studies first, filters in the address line, one page at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import date, datetime, time, timedelta

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from worker.operate.results import ResultRow
from worker.operate.worklist import WAITING, Place, WorklistFilter, WorklistPage, parse_place, worklist_page
from worker.ui.rows import Row, show_rows
from worker.ui.visit import Visit, plain
from worker.ui.words import OUTCOMES, duration, moment, outcome_words, short_model

LONGEST_WORD = 64
EVERYTHING = "all"
CHOICES = {
    EVERYTHING: "All",
    **{name: " ".join(words) for name, words in OUTCOMES.items()},
    WAITING: outcome_words(None),
}
TEXTS = {"text": "Patient ID, accession number or study UID", "body_part": "Body part", "model": "Model"}
DAYS = {"since": "Received from", "until": "Received up to"}
BELOW, OUTCOME, POSITIVE_FIRST = "below", "outcome", "positive"
COLUMNS = ("Outcome", "Probability", "Patient", "Accession", "Body part", "Received", "Turnaround", "Report", "Model")
REFRESH = timedelta(seconds=10)
CHOSEN, SEEN = "chosen-outcome", "seen-worklist"


def show(visit: Visit, study_page: StreamlitPage) -> None:
    """Show the page."""
    st.title("Worklist")
    wanted = _filters()
    _leave_trace(visit, wanted)
    _table(visit, study_page, wanted)


def _filters() -> WorklistFilter:
    """Show the filters; each stands in the address, so that a bookmark is the same view."""
    # The address is what counts: a choice is in it before we are here, and the browser's Back changes nothing else.
    asked = named if (named := st.query_params.get(OUTCOME)) in CHOICES else EVERYTHING
    if st.session_state.get(CHOSEN) != asked:
        st.session_state[CHOSEN] = asked
    outcome = st.segmented_control(
        "Outcome", list(CHOICES), format_func=CHOICES.__getitem__, key=CHOSEN, on_change=_remember_outcome
    )
    with st.expander("More filters", expanded=any(name in st.query_params for name in (*TEXTS, *DAYS))):
        columns = st.columns([3, 1, 2])
        words = {}
        for column, (name, label) in zip(columns, TEXTS.items(), strict=True):
            words[name] = column.text_input(
                label, key=name, max_chars=LONGEST_WORD, bind="query-params", on_change=_from_the_top
            ).strip()
        first, last, order = st.columns([1, 1, 2], vertical_alignment="bottom")
        days = [
            column.date_input(label, None, key=name, bind="query-params", on_change=_from_the_top)
            for column, (name, label) in zip((first, last), DAYS.items(), strict=True)
        ]
        positive = order.toggle(
            "Positive first", key=POSITIVE_FIRST, bind="query-params", on_change=_from_the_top,
            help="Possible fractures, then unclear studies, then all others.",
        )  # fmt: skip
    since, until = (day if isinstance(day, date) else None for day in days)
    return WorklistFilter(
        outcome=None if outcome in (None, EVERYTHING) else outcome,
        since=None if since is None else _midnight(since),
        until=None if until is None else _midnight(until + timedelta(days=1)),
        positive_first=positive,
        **{name: word or None for name, word in words.items()},
    )


def _leave_trace(visit: Visit, wanted: WorklistFilter) -> None:
    """Record each turn to another page or search: who, which filters, and where; never what was searched for."""
    visit.record_view_once("worklist")
    place = parse_place(st.query_params.get(BELOW))
    now = (wanted, place)
    before = st.session_state.get(SEEN, (WorklistFilter(), None))
    st.session_state[SEEN] = now
    if now == before:
        return
    visit.pressed(f"worklist: {_turn_words(wanted, place)}")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min).astimezone()


def _remember_outcome() -> None:
    """Put the outcome itself into the address: Streamlit's own binding would put the words that stand on the button."""
    chosen = st.session_state[CHOSEN]
    if chosen in (None, EVERYTHING):
        st.query_params.pop(OUTCOME, None)
    else:
        st.query_params[OUTCOME] = chosen
    _from_the_top()


def _from_the_top() -> None:
    """Begin at the first page, as another filter has other pages."""
    st.query_params.pop(BELOW, None)


@st.fragment(run_every=REFRESH)
def _table(visit: Visit, study_page: StreamlitPage, wanted: WorklistFilter) -> None:
    place = parse_place(st.query_params.get(BELOW))
    page = worklist_page(visit.database, wanted, place)
    if page.rows:
        rows = [_table_row(row, visit.patient) for row in page.rows]
        chosen = show_rows(_table_words(wanted), COLUMNS, rows, "worklist")
        if chosen is not None:
            st.switch_page(study_page, query_params={"uid": chosen})
    elif page.looked_at_all:
        st.info("No study matches." if place is None else "No older study matches.")
    _paging(page, is_first=place is None)
    # As plain text: Streamlit takes what stands between two colons for an emoji, and fetches all that it knows of them.
    st.caption(plain(f"As of {datetime.now().astimezone():%H:%M:%S}; looked up anew every {REFRESH.seconds} s."))


def _paging(page: WorklistPage, *, is_first: bool) -> None:
    if not page.looked_at_all:
        st.info("Older studies were not looked through yet: this search takes longer than half a second.")
    back, onward = st.columns(2)
    if not is_first and back.button("◀ Newest", width="stretch"):
        _from_the_top()
        st.rerun()
    words = "Older ▶" if page.looked_at_all else "Search further back ▶"
    if page.onward is not None and onward.button(words, width="stretch"):
        st.query_params[BELOW] = str(page.onward)
        st.rerun()


def _turn_words(wanted: WorklistFilter, place: Place | None) -> str:
    """Return which page this is and which filters were used, never what was searched for."""
    used = [TEXTS.get(each.name, each.name.replace("_", " ")) for each in fields(wanted) if getattr(wanted, each.name)]
    page = "newest page" if place is None else f"page below study {place.below}"
    return f"{page}; filters: {'; '.join(used) or 'none'}"


def _table_words(wanted: WorklistFilter) -> str:
    """Return what a screen reader calls the table."""
    return f"Studies, {'positive first' if wanted.positive_first else 'newest first'}"


def _table_row(row: ResultRow, patient: Callable[[str | None], str]) -> Row:
    """Return a study's row; `patient` is how this site shows a patient's identifier."""
    pending = " (newer answer on its way)" if row.update_pending else ""
    if row.held_reason is not None:
        pending = " (waits for a decision)"
    cells = (
        outcome_words(row.outcome) + pending,
        "-" if row.probability is None else f"{row.probability:.2f}",
        patient(row.patient_id),
        row.accession_number or "-",
        row.body_part or "-",
        moment(row.received_at),
        duration(row.turnaround_seconds),
        row.report_state,
        short_model(row.model_version),
    )
    return Row(cells, row.study_instance_uid, row.outcome or "")
