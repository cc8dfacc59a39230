"""Worklist: the newest studies first, filters in the address line, one page at a time."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from worker.operate.worklist import WorklistFilter, WorklistPage, parse_place, worklist_page
from worker.ui.rows import show_rows
from worker.ui.visit import Visit, plain
from worker.ui.worklist_view import (
    BELOW,
    CHOICES,
    COLUMNS,
    DAYS,
    EVERYTHING,
    LONGEST_WORD,
    OUTCOME,
    POSITIVE_FIRST,
    TEXTS,
    table_row,
    table_words,
    turn_words,
)

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
            help="Suspected fractures, then unclear studies, then all others.",
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
    visit.looked("worklist")
    place = parse_place(st.query_params.get(BELOW))
    now = (wanted, place)
    before = st.session_state.get(SEEN, (WorklistFilter(), None))
    st.session_state[SEEN] = now
    if now == before:
        return
    visit.pressed(f"worklist: {turn_words(wanted, place)}")


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
        rows = [table_row(row, visit.patient) for row in page.rows]
        chosen = show_rows(table_words(wanted), COLUMNS, rows, "worklist")
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
