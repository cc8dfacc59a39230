"""One visit of the page: the site, who is looking, and the trace of what they look at and press."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from worker.db.base import utc_now
from worker.db.database import Database, open_database
from worker.db.events import record
from worker.settings.settings import Settings, load_settings
from worker.ui.access.login import NAME_HEADER, ROLE_HEADER

# Everything that Markdown gives a meaning; emoji shortcodes, colours and formulas too.
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$&^=])")
MASK = "•••"


@dataclass(frozen=True, slots=True)
class Visit:
    """Who looks at what; `role` is viewer or operator."""

    settings: Settings
    database: Database
    name: str
    role: str

    @property
    def logged_in(self) -> bool:
        """Whether this site asks for a login."""
        return self.settings.ui_password_file is not None or self.settings.ui_login_file is not None

    @property
    def may_act(self) -> bool:
        """Whether this person may press what changes something."""
        return self.role == "operator"

    def operator_button(self, label: str, help_text: str, place: DeltaGenerator | None = None, **more: Any) -> bool:
        """Show a button that only an operator can press; returns whether one has.

        A viewer's is greyed out, and what a browser sends of its press all the same is none.
        """
        words = f"For operators{help_text}"
        pressed = (place or st).button(label, disabled=not self.may_act, help=words, **more)
        return bool(pressed) and self.may_act

    def patient(self, text: str | None) -> str:
        """Return a patient's identifier as it may be shown."""
        if not text:
            return "-"
        return MASK if self.settings.ui_mask_patients else text

    def record_view_once(self, what: str, study_id: int | None = None) -> None:
        """Record a look, once for each page, study and session."""
        seen = st.session_state.setdefault("views-recorded", set())
        if (what, study_id) not in seen:
            self._record("page_viewed", what, study_id)
            seen.add((what, study_id))

    def pressed(self, what: str, study_id: int | None = None) -> None:
        """Record that a button was pressed."""
        self._record("page_pressed", what, study_id)

    def _record(self, kind: str, what: str, study_id: int | None) -> None:
        with self.database.write() as session:
            record(session, kind, utc_now(), study_id=study_id, by=self.name, what=what)


def current_visit() -> Visit:
    """Return this visit. The headers are those of the door (`worker.ui.access.login`): nobody can send their own."""
    settings, database = _site()
    headers = st.context.headers
    return Visit(settings, database, headers.get(NAME_HEADER, ""), headers.get(ROLE_HEADER, ""))


@st.cache_resource
def _site() -> tuple[Settings, Database]:
    settings = load_settings()
    return settings, open_database(settings.sqlalchemy_url())


def plain(text: str) -> str:
    """Return a text whose every character Markdown shows as it is."""
    return MARKDOWN.sub(r"\\\1", " ".join(text.split()))
