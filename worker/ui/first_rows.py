"""The worklist's rows in the page itself: there to be read while the browser still fetches Streamlit's programs.

They lie above the place where Streamlit draws, in a shadow root of their own, and `rows.js` takes them away when the
same rows stand below. Nothing of them runs: they are text, links and styles. Where anything is in doubt (a filter that
only Streamlit's widgets can read, a database that does not answer soon) the page comes without them.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote

import structlog
from anyio import CapacityLimiter, move_on_after, to_thread
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import Scope

from dicom_io.network.incident import incident
from worker.db.database import Database
from worker.errors import DatabaseError
from worker.operate.worklist import WorklistFilter, worklist_page
from worker.settings.settings import Settings
from worker.ui.login import NAME_HEADER, ROLE_HEADER
from worker.ui.rows import CSS, Row
from worker.ui.visit import Visit
from worker.ui.words import NOTICE
from worker.ui.worklist_view import COLUMNS, asked_for, table_row, table_words, turn_words

log = structlog.get_logger(__name__)

WAIT_SECONDS = 0.4
"""After so long the page goes without rows; its programs wait behind them."""
SEARCH_SECONDS = 0.2
READERS = 4
ROLES = ("viewer", "operator")
# Colours and places are those of what Streamlit will draw, so that little moves. Until then nothing below can be
# reached. An alert or a dialog of Streamlit's, or twenty seconds, and the rows are gone for good: what is delayed by a
# million seconds does not turn back.
FRAME = """<div id="first-rows"><style>
#first-rows { animation: leave 0s 20s forwards; transition: visibility 0s 999999s }
#first-rows + #root { visibility: hidden; animation: come 0s 20s forwards; transition: visibility 0s 999999s }
@keyframes leave { to { visibility: hidden } } @keyframes come { to { visibility: visible } }
body:has([data-testid="stAlert"], [data-testid="stException"], [role="dialog"]) {
  #first-rows { visibility: hidden; transition: none } #first-rows + #root { visibility: visible; transition: none } }
</style><template shadowrootmode="open"><style>
:host { position: fixed; inset: 0; z-index: 1000000; overflow: auto; color-scheme: light dark;
  background: Canvas; background: light-dark(#fff, #171614); --st-text-color: light-dark(#2f2d2b, #edebe8);
  --st-secondary-background-color: light-dark(#f8f8f7, #2d2b27);
  --st-border-color: light-dark(#2f2d2b33, #edebe833); --st-font: "Source Sans", sans-serif;
  font: 1rem/1.6 var(--st-font); color: var(--st-text-color) }
main { padding: 63px 5rem 2rem } p { margin: 0; font-size: .875rem }
h1 { font-size: 2.75rem; line-height: 1.2; margin: 37px 0 22px; height: 53px } h1 + p { height: 125px }
@media (max-width: 700px) { main { padding: 63px 1rem } h1 { font-size: 2rem; height: 38px } h1 + p { height: 232px } }
__CSS__ tr { position: relative } a::after { content: ""; position: absolute; inset: 0 }
</style><main><p>__NOTICE__</p><h1>Worklist</h1><p role="status">Filters and buttons are on their way.</p>
<div class="rows">__TABLE__</div></main></template></div>"""


@dataclass
class FirstRows:
    """Makes them for whoever asks for the page; each answer is a look at patients and recorded first.

    `database` is for this alone and waits for little: nobody's page may be late because somebody writes.
    """

    settings: Settings
    database: Database
    _limiter: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(READERS))

    async def prepare(self) -> None:
        """Ask once for rows, so that no visitor waits for what the first question costs."""
        with suppress(DatabaseError, SQLAlchemyError):  # the first visitor will hear of it
            await to_thread.run_sync(worklist_page, self.database, WorklistFilter())

    async def __call__(self, scope: Scope) -> bytes:
        """Return the markup for a request that came through the door (`worker.ui.login`); nothing if there is none."""
        headers = Headers(scope=scope)
        visit = Visit(self.settings, self.database, headers.get(NAME_HEADER, ""), headers.get(ROLE_HEADER, ""))
        # Another site's page could name ours as a picture: nobody looks then.
        if visit.role not in ROLES or headers.get("sec-fetch-dest", "document") != "document":
            return b""
        query, late = scope.get("query_string", b"").decode("latin-1"), time.monotonic() + WAIT_SECONDS
        with move_on_after(WAIT_SECONDS):
            try:
                making = partial(_markup, visit, query, late)
                return await to_thread.run_sync(making, abandon_on_cancel=True, limiter=self._limiter)
            except Exception as error:  # noqa: BLE001 - whatever it is costs the rows, never the page
                log.warning("page_without_first_rows", **incident(error))
                return b""
        log.warning("page_without_first_rows", error="slow")
        return b""


def _markup(visit: Visit, query: str, late: float) -> bytes:
    asked = asked_for(query)
    page = None if asked is None else worklist_page(visit.database, *asked, patience_seconds=SEARCH_SECONDS)
    if asked is None or page is None or not page.rows or time.monotonic() > late:
        return b""
    visit.record_look(f"worklist, first rows: {turn_words(*asked)}")
    rows = [table_row(row, visit.patient) for row in page.rows]
    table = _table(table_words(asked[0]), rows)
    return FRAME.replace("__CSS__", CSS).replace("__NOTICE__", NOTICE).replace("__TABLE__", table).encode()


def _table(words: str, rows: Iterable[Row]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in COLUMNS)
    body = "".join(map(_row, rows))
    return f'<table aria-label="{html.escape(words)}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _row(row: Row) -> str:
    uid = row.study_instance_uid
    first, *others = map(html.escape, row.cells)
    cells = [f'<a href="study?uid={quote(uid, safe="")}" data-uid="{html.escape(uid)}">{first}</a>', *others]
    tagged = (
        f'<td data-name="{html.escape(name)}"{" class=empty" if cell == "-" else ""}>{cell}</td>'
        for name, cell in zip(COLUMNS, cells, strict=True)
    )
    return f'<tr class="leads {html.escape(row.mark)}">{"".join(tagged)}</tr>'
