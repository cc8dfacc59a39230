"""A table that a screen reader reads, whose rows lead to studies by keyboard too; a list of cards on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

_FOLDER = Path(__file__).parent
_table = st.components.v2.component(
    "bonewatch_rows",
    html='<div class="rows"></div>',
    css=(_FOLDER / "rows.css").read_text(encoding="utf-8"),
    js=(_FOLDER / "rows.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """Cells as plain text; the study that they lead to, if any; `mark` is an outcome, for the row's edge."""

    cells: Sequence[str]
    study_instance_uid: str = ""
    mark: str = ""


def show_rows(words: str, columns: Sequence[str], rows: Sequence[Row], key: str) -> str | None:
    """Show rows; return the study that was chosen just now, if one was.

    `words` is what a screen reader calls the table. Cells are shown as they are, whatever is in them.
    """
    chosen = _table(
        key=key,
        data={
            "words": words,
            "columns": list(columns),
            "rows": [{"uid": row.study_instance_uid, "mark": row.mark, "cells": list(row.cells)} for row in rows],
        },
        on_chosen_change=lambda: None,
    )
    uid = chosen.get("chosen")
    return str(uid) if uid else None
