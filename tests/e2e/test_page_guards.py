"""What the page's server keeps to itself, and what it refuses, whatever a browser asks of it."""

from __future__ import annotations

import http.client
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser import Visitor
from tests.e2e.conftest import HOSTILE_ID
from tests.peers import LOOPBACK, wait_until

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

PATIENTS = ("TWO-VIEWS", "TEST^PHANTOM", HOSTILE_ID, "owned", "BROKEN")
MIB = 2**20
LIMIT, SENT = 20 * MIB, 300 * MIB
UPLOADS = 3
BOUNDARY = "of-the-tests"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.dcm"\r\n'
    "Content-Type: application/dicom\r\n\r\n"
).encode()
# Everything in the page, shadow roots too.
WHOLE = """() => {
  const hosts = (root) => [...root.querySelectorAll("*")].filter((each) => each.shadowRoot);
  const inside = (root) => hosts(root).map((each) => all(each.shadowRoot));
  const all = (root) => root.innerHTML + inside(root).join("");
  return document.title + all(document.documentElement);
}"""


def received(page):
    """Return a list that all that reaches the browser through WebSockets is put into."""
    messages: list[bytes] = []

    def keep(payload):
        messages.append(payload if isinstance(payload, bytes) else payload.encode())

    page.on("websocket", lambda socket: socket.on("framereceived", keep))
    return messages


def test_a_masked_patient_reaches_no_browser(browser, page_site, masked_site, visit):
    visitor = visit()
    unmasked = received(visitor.page)
    visitor.see(f"study?uid={page_site.two_views}", "Study")
    assert b"TWO-VIEWS" in b"".join(unmasked), "without the mask it does: it would be seen here"
    assert "TWO-VIEWS" in visitor.page.evaluate(WHOLE)

    visitor = Visitor(browser, masked_site.address, masked_site.pictures)
    try:
        messages, page, names = received(visitor.page), visitor.page, []
        visitor.see("", "Worklist")
        expect(page.get_by_role("cell", name="•••").first).to_be_visible()
        texts = [page.evaluate(WHOLE)]
        for uid in (page_site.hostile, page_site.two_views):
            visitor.see(f"study?uid={uid}", "Study")
            expect(page.get_by_text("Patient: •••")).to_be_visible()
            texts.append(page.evaluate(WHOLE))
        with page.expect_download() as marked:
            page.get_by_role("button", name="Marked image (PNG)").first.click()
        page.get_by_role("tab", name="Report").click()
        with page.expect_download() as report:
            page.get_by_role("button", name="Structured report (DICOM)").click()
        names += [marked.value.suggested_filename, report.value.suggested_filename]
        for path, heading in (("archive", "Archive night"), ("operations", "Operations")):
            visitor.see(path, heading)
            texts.append(page.evaluate(WHOLE))
    finally:
        visitor.close()
    assert len(messages) > 10
    for patient in PATIENTS:
        assert patient.encode() not in b"".join(messages)
        assert patient not in "".join((*texts, *names))


@pytest.fixture
def ticket(browser, masked_site, tmp_path):
    visitor, ticket = uploading(browser, masked_site, tmp_path)
    yield ticket
    visitor.close()


def uploading(browser, masked_site, tmp_path):
    """Upload a file as a browser does; return the visitor, and the path and headers that let it."""
    letter = tmp_path / "letter.txt"
    letter.write_text("This is not an image.\n")
    visitor = Visitor(browser, masked_site.address, masked_site.pictures)
    visitor.see("analyse", "Analyse an X-ray")
    with visitor.page.expect_request(re.compile("/_stcore/upload_file/")) as request:
        visitor.upload(letter)
    expect(visitor.page.get_by_text("Could not be analysed")).to_be_visible()
    headers = request.value.all_headers()
    path = urlsplit(request.value.url).path.rsplit("/", 1)[0] + "/another"
    return visitor, (path, {name: headers[name] for name in ("cookie", "x-xsrftoken")})


def put(port, ticket, size, *, chunked):
    """Send a file of so many bytes and return the status."""
    path, headers = ticket
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    connection.putrequest("PUT", path)
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    for name, value in headers.items():
        connection.putheader(name, value)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    else:
        connection.putheader("Content-Length", str(len(HEAD) + size + len(tail)))
    connection.endheaders()

    def send(data):
        connection.send(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)

    try:
        send(HEAD)
        for _ in range(size // MIB):
            send(bytes(MIB))
        send(tail)
        if chunked:
            connection.send(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has answered and does not listen any more
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def memory(server, which):
    return int(re.search(rf"{which}:\s+([0-9]+) kB", (server / "status").read_text())[1]) * 1024


@pytest.mark.parametrize("chunked", [False, True], ids=["with-its-length", "without-its-length"])
def test_too_large_an_upload_is_refused_by_the_server_itself(masked_site, ticket, chunked):
    port, server = masked_site.bonewatch.page_port, Path(f"/proc/{masked_site.bonewatch.main.pid}")
    assert put(port, ticket, MIB, chunked=chunked) == 204, "a small one is accepted on the same way"
    before = memory(server, "VmRSS")
    (server / "clear_refs").write_text("5")  # the peak is counted anew from here on (proc(5))

    assert put(port, ticket, SENT, chunked=chunked) == 413

    assert memory(server, "VmHWM") - before < 2 * LIMIT
    temporary = str(masked_site.bonewatch.temporary)
    assert not [link for link in open_files(server) if "(deleted)" in link and link.startswith(temporary)]
    assert masked_site.uploads_on_disk() == []


def test_no_more_files_lie_at_the_servers_own_address_than_the_page_takes(masked_site, ticket):
    port, (path, headers) = masked_site.bonewatch.page_port, ticket
    server = Path(f"/proc/{masked_site.bonewatch.main.pid}")
    session = path.rsplit("/", 1)[0]
    names = [f"{session}/file{number}" for number in range(UPLOADS + 2)]

    answers = [put(port, (name, headers), MIB, chunked=False) for name in names]

    # The page's own file is one of them.
    assert answers == [204] * (UPLOADS - 1) + [413] * 3
    before = memory(server, "VmRSS")
    (server / "clear_refs").write_text("5")
    assert put(port, (names[-1], headers), LIMIT - MIB, chunked=False) == 413
    assert memory(server, "VmHWM") - before < LIMIT // 2

    assert delete(port, (names[0], headers)) == 204
    assert put(port, (names[-1], headers), MIB, chunked=False) == 204, "a file taken away frees its room"
    assert put(port, (names[-2], headers), MIB, chunked=False) == 413


def test_what_was_uploaded_is_forgotten_on_another_page(browser, masked_site, tmp_path):
    letter = tmp_path / "letter.txt"
    letter.write_text("This is not an image.\n")
    visitor = Visitor(browser, masked_site.address, masked_site.pictures)
    try:
        page = visitor.see("analyse", "Analyse an X-ray")
        for _ in range(UPLOADS + 1):
            visitor.upload(letter)
            expect(page.get_by_text("Could not be analysed")).to_be_visible()
            page.get_by_role("link", name="Operations").first.click()
            expect(page.get_by_role("heading", name="Operations", level=1)).to_be_visible()
            visitor.rest()
            page.get_by_role("link", name="Analyse an X-ray").first.click()
            expect(page.get_by_role("heading", name="Analyse an X-ray", level=1)).to_be_visible()
            visitor.rest()
    finally:
        visitor.close()


def test_what_lies_on_a_closed_page_makes_room_soon(browser, masked_site, tmp_path):
    port = masked_site.bonewatch.page_port

    def fill(ticket):
        path, headers = ticket
        names = [f"{path}{number}" for number in range(UPLOADS - 1)]  # beside the page's own file
        return [put(port, (name, headers), LIMIT - MIB, chunked=False) for name in names]

    visitor, ticket = uploading(browser, masked_site, tmp_path)
    wait_until(lambda: set(fill(ticket)) == {204}, 180, "files of pages closed before have gone", every=0.5)
    other, another = uploading(browser, masked_site, tmp_path)
    try:
        visitor.close()
        assert 413 in fill(another)
        wait_until(lambda: set(fill(another)) == {204}, 180, "the closed page's files have gone", every=0.5)
    finally:
        other.close()


def delete(port, ticket):
    path, headers = ticket
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    try:
        connection.request("DELETE", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def open_files(server):
    return [str(link.readlink()) for link in (server / "fd").iterdir() if link.is_symlink()]
