"""The tick that keeps an upload: for operators and DICOM files alone, and never set unless somebody sets it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from worker.candidates import Kind
from worker.errors import DatabaseError
from worker.kept_uploads import keep_upload
from worker.ui.uploads import Analysed
from worker.ui.visit import Visit, plain

KEPT = "kept"
LABEL = "Keep: store it and answer it like a study the PACS pushed"
PICTURE = "A picture cannot be kept: it names no patient and no study. DICOM files can."
STORED = "Stored. It stands in the worklist, and is answered like what the PACS pushes."
AWAY = "The database does not answer now: take the tick away and set it again later."


def offer_to_keep(visit: Visit, images: Sequence[Analysed]) -> None:
    """Show the tick for images of one study, keep them once it is set, and say what came of it."""
    kinds = {each.kind for each in images}
    if not visit.may_act or Kind.OTHER in kinds:  # what is no image was told so already
        return
    if Kind.PICTURE in kinds:
        st.caption(PICTURE)
        return
    # All of them are in the key: an image that is added later was not meant when the tick was set.
    key = "-".join(("keep", *(each.upload.file_id for each in images)))
    known: dict[str, list[str]] = st.session_state.setdefault(KEPT, {})
    if known.get(key) == []:
        st.success(STORED)  # in place of the tick: what is stored, no page deletes
        return
    if not st.checkbox(LABEL, key=key):
        known.pop(key, None)
        return
    if key not in known:
        with st.spinner("Storing"):
            known[key] = _keep(visit, images)
        st.rerun()
    for refusal in known[key]:
        st.error(plain(refusal))


def _keep(visit: Visit, images: Sequence[Analysed]) -> list[str]:
    """Keep each; return in words what was refused."""
    refusals = []
    for each in images:
        try:
            visit.pressed("keep an upload")
            reason = keep_upload(visit.settings, visit.database, each.upload.getvalue(), visit.name)
        except DatabaseError:
            reason = AWAY
        if reason is not None:
            refusals.append(f"{each.name} was not stored: {reason}")
    return refusals
