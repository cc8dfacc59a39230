"""What every visit of the page runs: who is looking, and which page they want. Started by `worker.ui.serve` alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import streamlit as st

from worker.ui import page_analyse, page_archive, page_model, page_operations, page_study, page_worklist
from worker.ui.uploads import forget_uploads
from worker.ui.visit import current_visit, plain
from worker.ui.words import NOTICE

st.set_page_config(page_title="bonewatch", page_icon=str(Path(__file__).with_name("icon.png")), layout="wide")
visit = current_visit()
if visit.role not in ("viewer", "operator"):
    st.error("This page is reached through `bonewatch ui` only.")
    st.stop()

study = st.Page(partial(page_study.show, visit), title="Study", icon=":material/radiology:", url_path="study")
analyse = st.Page(
    partial(page_analyse.show, visit), title="Analyse an X-ray", icon=":material/upload:", url_path="analyse"
)
archive = partial(page_archive.show, visit, study)
PAGES = [
    st.Page(
        partial(page_worklist.show, visit, study),
        title="Worklist",
        icon=":material/list:",
        url_path="worklist",
        default=True,
    ),
    study,
    analyse,
    st.Page(archive, title="Archive night", icon=":material/bedtime:", url_path="archive"),
    st.Page(
        partial(page_operations.show, visit), title="Operations", icon=":material/monitoring:", url_path="operations"
    ),
    st.Page(partial(page_model.show, visit), title="Model", icon=":material/insights:", url_path="model"),
]
chosen = st.navigation(PAGES, position="top")
if chosen != analyse:
    forget_uploads()
st.html(Path(__file__).with_name("page.css"))
with st.container(horizontal=True, horizontal_alignment="distribute"):
    st.caption(NOTICE, width="content")
    if visit.logged_in:
        st.caption(f"{plain(visit.name)} ({visit.role}) · [log out](/logout)", width="content")
chosen.run()
