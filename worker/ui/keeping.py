"""The tick that keeps an upload: for operators and DICOM files alone, and never set unless somebody sets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import streamlit as st
import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_io.errors import StoreError
from dicom_io.network.incident import incident
from worker.db.database import Database
from worker.errors import DatabaseError
from worker.files.candidates import Kind
from worker.reception.kept_uploads import KeptUploads, build_kept_uploads
from worker.settings.settings import Settings
from worker.ui.uploads import KEPT, Analysed
from worker.ui.visit import Visit, plain

LABEL = "Keep: store it and answer it like a study the PACS pushed; a report of it may go to the PACS"
PICTURE = "A picture cannot be kept: it names no patient and no study. DICOM files can."
STORED = "Stored. It stands in the worklist, and is answered like what the PACS pushes."
AWAY = "was not stored: the database does not answer now. Tick again later."

log = structlog.get_logger(__name__)


@dataclass
class Kept:
    """What came of the ticks of a session: `said` of each upload by its id, None where it is stored."""

    said: dict[str, str | None] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)  # ticks that are to be off when they are shown next


def offer_to_keep(visit: Visit, images: Sequence[Analysed]) -> None:
    """Show the tick for images of one study, keep them once it is set, and say what came of it."""
    kinds = {each.kind for each in images}
    if not visit.may_act or Kind.OTHER in kinds:  # what is no image was told so already
        return
    if Kind.PICTURE in kinds:
        st.caption(PICTURE)
        return
    kept: Kept = st.session_state.setdefault(KEPT, Kept())
    # What is stored, no page deletes; it is not asked for again, which would be a second trace of it.
    waiting = [each for each in images if kept.said.get(each.upload.file_id, "") is not None]
    if not waiting:
        st.success(STORED)  # in place of the tick
        return
    # All of them are in the key: an image that is added later was not meant when the tick was set.
    key = "-".join(("keep", *(each.upload.file_id for each in images)))
    if key in kept.tried:
        # One tick is one try, also where that failed: whatever runs the page again must not try once more.
        kept.tried.remove(key)
        st.session_state[key] = False
    if st.checkbox(LABEL, key=key):
        kept.tried.add(key)
        with st.spinner("Storing"):
            _keep(visit, kept, waiting)
        st.rerun()
    if len(waiting) < len(images):
        st.info(f"{len(images) - len(waiting)} of {len(images)} are stored for good. The tick keeps the others.")
    for each in waiting:
        words = kept.said.get(each.upload.file_id)
        if words is not None:
            st.error(plain(f"{each.name} {words}"))


def _keep(visit: Visit, kept: Kept, waiting: Sequence[Analysed]) -> None:
    """Keep each, and note of each at once what came of it: a visitor's next click may end this run."""
    try:
        visit.pressed(f"keep {len(waiting)} uploads")
        keeper = _keeper(visit.settings, visit.database)
    except (DatabaseError, SQLAlchemyError, StoreError) as error:
        log.warning("uploads_not_kept", **incident(error))
        words = f"was not stored: {error}" if isinstance(error, StoreError) else AWAY
        kept.said |= {each.upload.file_id: words for each in waiting}
        return
    for each in waiting:
        kept.said[each.upload.file_id] = keeper.keep(each.upload.getvalue(), visit.name)


# One for the site, whose database there is one of: a store may hold connections, and the reception counts repetitions.
@st.cache_resource(hash_funcs={Database: id}, show_spinner=False)
def _keeper(_settings: Settings, database: Database) -> KeptUploads:
    return build_kept_uploads(_settings, database)
