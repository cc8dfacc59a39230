"""The rows that come in the page, in a real browser without a server: they make room for all that Streamlit has to say.

That they come at all, and go when the worklist stands, is tested with the running page (`test_page_lists`).
"""

from __future__ import annotations

import base64
import math
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.databases import a_job, a_study, sqlite_database
from worker.settings.settings import load_settings
from worker.ui import first_rows
from worker.ui.visit import Visit

pytestmark = [pytest.mark.peer, pytest.mark.slow]

ROWS_JS = Path(first_rows.__file__).with_name("rows.js")
DRAW = """async ([script, uid]) => {
  const { default: show } = await import(`data:text/javascript;base64,${script}`);
  const host = document.getElementById("live");
  host.attachShadow({ mode: "open" }).innerHTML = '<div class="rows"></div>';
  const data = { words: "Studies", columns: ["Outcome"], rows: [{ uid, mark: "", cells: ["seen"] }] };
  show({ data, parentElement: host.shadowRoot, setTriggerValue() {} });
}"""


@pytest.fixture(scope="module")
def markup(tmp_path_factory):
    """What comes for two studies."""
    folder = tmp_path_factory.mktemp("rows")
    database = sqlite_database(folder)
    with database.write() as session:
        for number in (1, 2):
            a_job(session, a_study(session, number), outcome="present")
    visit = Visit(load_settings(home=folder, minimum_free_bytes=0), database, "ada", "viewer")
    made = first_rows._markup(visit, "", math.inf)
    database.close()
    return made.decode()


@pytest.fixture
def page(browser, markup):
    """Open a page with them, above what Streamlit would have drawn."""
    context = browser.new_context()
    page = context.new_page()
    page.set_content(f'{markup}<div id="root"><button>Below</button><div id="live"></div></div>')
    yield page
    context.close()


def table(page):
    return page.get_by_role("table", name="Studies, newest first")


@pytest.mark.parametrize("words", ['data-testid="stAlert"', 'data-testid="stException"', 'role="dialog"'])
def test_what_streamlit_says_is_never_below_them_and_they_do_not_come_back(page, words):
    expect(table(page)).to_be_visible()
    expect(page.get_by_role("button", name="Below")).to_be_hidden()  # nor can a keyboard reach it
    page.evaluate(f"document.getElementById('root').insertAdjacentHTML('beforeend', '<p {words} id=said>no</p>')")
    expect(table(page)).to_be_hidden()
    expect(page.get_by_role("button", name="Below")).to_be_visible()
    page.evaluate("document.getElementById('said').remove()")
    page.wait_for_timeout(300)
    expect(table(page)).to_be_hidden()
    expect(page.get_by_role("button", name="Below")).to_be_visible()


def test_where_streamlit_never_draws_they_go_by_themselves(page):
    page.evaluate("document.getAnimations().forEach(each => each.finish())")
    expect(table(page)).to_be_hidden()
    expect(page.get_by_role("button", name="Below")).to_be_visible()


def test_the_live_table_takes_their_place_and_the_keyboards_with_it(page):
    link = table(page).get_by_role("link").first
    uid = link.get_attribute("data-uid")
    link.focus()
    page.evaluate(DRAW, [base64.b64encode(ROWS_JS.read_bytes()).decode(), uid])
    assert page.locator("#first-rows").count() == 0
    assert page.evaluate("document.getElementById('live').shadowRoot.activeElement.dataset.uid") == uid


def test_a_whole_row_leads_to_its_study(page):
    addresses = []
    page.route("**/study?uid=*", lambda route: (addresses.append(route.request.url), route.abort()))
    page.evaluate("document.head.insertAdjacentHTML('beforeend', '<base href=\"http://bonewatch.invalid/\">')")
    table(page).get_by_role("cell", name="P-2").click(force=True)  # the link lies over it
    page.wait_for_timeout(300)
    assert len(addresses) == 1
