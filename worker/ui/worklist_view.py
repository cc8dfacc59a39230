"""What the worklist shows, whoever draws it: the studies that an address asks for, the words of a row, the trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from starlette.datastructures import QueryParams

from worker.operate.results import ResultRow
from worker.operate.worklist import WAITING, Place, WorklistFilter, parse_place
from worker.ui.rows import Row
from worker.ui.words import OUTCOMES, duration, moment, outcome_words, short_model

EVERYTHING = "all"
CHOICES = {
    EVERYTHING: "All",
    **{name: " ".join(words) for name, words in OUTCOMES.items()},
    WAITING: outcome_words(None),
}
TEXTS = {"text": "Patient ID, accession number or study UID", "body_part": "Body part", "model": "Model"}
DAYS = {"since": "Received from", "until": "Received up to"}
BELOW, OUTCOME, POSITIVE_FIRST = "below", "outcome", "positive"
LONGEST_WORD, LONGEST_QUERY = 64, 900
COLUMNS = ("Outcome", "Probability", "Patient", "Accession", "Body part", "Received", "Turnaround", "Report", "Model")
SWITCH = {"true": True, "false": False, "": False}


def asked_for(query: str) -> tuple[WorklistFilter, Place | None] | None:
    """Read the filters and the place of an address without Streamlit.

    Returns
    -------
    tuple or None
        None where only Streamlit's own widgets know what they make of it: a day, a name twice, a value that is none.
    """
    params = QueryParams(query)
    words = {name: params.get(name, "") for name in TEXTS}
    positive_first = SWITCH.get(params.get(POSITIVE_FIRST, "").lower())
    is_unclear = (
        len(query) > LONGEST_QUERY  # Streamlit forgets what has a thousand fields
        or any(name in params for name in DAYS)
        or len(params.multi_items()) != len(params)
        or any(len(word) > LONGEST_WORD for word in words.values())
    )
    if positive_first is None or is_unclear:
        return None
    outcome = params.get(OUTCOME)
    wanted = WorklistFilter(
        outcome=outcome if outcome in CHOICES and outcome != EVERYTHING else None,
        positive_first=positive_first,
        text=words["text"].strip() or None,
        body_part=words["body_part"].strip() or None,
        model=words["model"].strip() or None,
    )
    return wanted, parse_place(params.get(BELOW))


def turn_words(wanted: WorklistFilter, place: Place | None) -> str:
    """Return which page this is and which filters were used, never what was searched for."""
    used = [TEXTS.get(each.name, each.name.replace("_", " ")) for each in fields(wanted) if getattr(wanted, each.name)]
    page = "newest page" if place is None else f"page below study {place.below}"
    return f"{page}; filters: {'; '.join(used) or 'none'}"


def table_words(wanted: WorklistFilter) -> str:
    """Return what a screen reader calls the table."""
    return f"Studies, {'positive first' if wanted.positive_first else 'newest first'}"


def table_row(row: ResultRow, patient: Callable[[str | None], str]) -> Row:
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
