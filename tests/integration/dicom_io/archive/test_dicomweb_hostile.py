"""DICOMweb servers that answer badly or without end: each request ends in its time, in words; nothing bad is kept."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import time
import zlib

import pytest

from dicom_io.archive import dicomweb_session
from dicom_io.archive.archive import StudyQuery
from dicom_io.archive.dicomweb import DicomwebArchive
from dicom_io.archive.dicomweb_session import BoundedSession, DicomwebServer
from dicom_io.errors import PeerBusy, PeerRefused, PeerUnreachable
from dicom_io.receive.reception import Reception
from dicom_io.store.folder import InstanceStore
from tests.builders import build_cr, part10_bytes, uid
from tests.fakes import FakeIntake
from tests.hostile_web import HostileWeb, answer, chunk

pytestmark = pytest.mark.timeout(60)

SECONDS = 1.5
MARGIN = 10
"""What a busy machine may take beyond the bound."""
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nTransfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(1 << 25))
GZIPPED = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
MULTIPART = 'multipart/related; type="application/dicom"; boundary=edge'


def archive(url, folder, **changes):
    server = DicomwebServer("past", url, 1.0, SECONDS, 1 << 20, **changes)
    return DicomwebArchive(server, InstanceStore(folder / "store").spool)


@pytest.fixture(autouse=True)
def small_answers(monkeypatch):
    monkeypatch.setattr(dicomweb_session, "MAXIMUM_ANSWER_BYTES", 1 << 20)


def endless_body(web, path):
    yield CHUNKED
    yield from itertools.repeat(chunk(b"[" + b" " * 65536))


def endless_headers(web, path):
    yield b"HTTP/1.1 200 OK\r\n"
    yield from itertools.repeat(b"X-More: again\r\n")


def endless_header(web, path):
    yield b"HTTP/1.1 200 OK\r\nX-Long: "
    yield from itertools.repeat(b"x" * 65536)


def slow_headers(web, path):
    yield b"HTTP/1.1 200 OK\r\n"
    yield from web.drip(b"X-More: again\r\n")


def endless_continue(web, path):
    for again in itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"):
        yield again
        web.stopped.wait(0.01)


def slow_body(web, path):
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n\r\n["
    yield from web.drip(b" ")


def slow_chunk_size(web, path):
    yield CHUNKED
    yield from web.drip(b"0")


def endless_trailers(web, path):
    yield CHUNKED + chunk(b"[]") + b"0\r\n"
    yield from itertools.repeat(b"X-More: again\r\n")


def compressed_nothing(web, path):
    packer = zlib.compressobj(wbits=31)
    yield GZIPPED + chunk(packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH))
    while True:
        yield chunk(b"\0\0\0\xff\xff")  # an empty block (RFC 1951 3.2.4)
        web.stopped.wait(0.01)


def silence(web, path):
    yield b""
    web.stopped.wait()


def gzip_bomb(web, path):
    yield answer(BOMB, more="Content-Encoding: gzip\r\n")


def broken_gzip(web, path):
    yield answer(gzip.compress(b"[]")[:-9] + b"broken bytes", more="Content-Encoding: gzip\r\n")


def cut_short(web, path):
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: 100\r\n\r\n[]"


def no_http(web, path):
    yield b"SSH-2.0-OpenSSH_9.2\r\n"


def always(piece):
    def script(web, path):
        yield piece

    return script


WHAT_IS_ASKED = "had not ended within 1.5 s what we asked for"
QUERIES = {
    "endless body": (endless_body, PeerRefused, "sends more than 1048576 bytes"),
    "endless headers": (endless_headers, PeerUnreachable, "no answer"),
    "endless header": (endless_header, PeerUnreachable, "no answer"),
    "slow headers": (slow_headers, PeerUnreachable, WHAT_IS_ASKED),
    "endless 100 Continue": (endless_continue, PeerUnreachable, WHAT_IS_ASKED),
    "slow body": (slow_body, PeerUnreachable, WHAT_IS_ASKED),
    "slow size of a chunk": (slow_chunk_size, PeerUnreachable, WHAT_IS_ASKED),
    "endless trailers": (endless_trailers, PeerUnreachable, "no answer"),
    "compressed nothing": (compressed_nothing, PeerUnreachable, WHAT_IS_ASKED),
    "silence": (silence, PeerUnreachable, "no answer"),
    "gzip bomb": (gzip_bomb, PeerRefused, "sends more than 1048576 bytes"),
    "broken gzip": (broken_gzip, PeerUnreachable, "no answer"),
    "cut short": (cut_short, PeerUnreachable, "no answer"),
    "no HTTP": (no_http, PeerUnreachable, "no answer"),
    "a page": (always(answer(b"<html>Welcome</html>", "text/html")), PeerRefused, "the answer cannot be read"),
    "no text": (always(answer(b'["\xff\xfe"]')), PeerRefused, "the answer cannot be read"),
    "deep": (always(answer(b"[" * 100_000)), PeerRefused, "the answer cannot be read"),
    "numbers": (always(answer(b"[1, 2]")), PeerRefused, "the answer cannot be read"),
    "error": (always(answer(b"", status="500 Oops")), PeerBusy, "answered with HTTP status 500"),
    "login": (always(answer(b"", status="401 No")), PeerRefused, "401: it wants other credentials"),
}


@pytest.mark.parametrize(("script", "error", "words"), QUERIES.values(), ids=QUERIES)
def test_a_query_ends_in_its_time_and_says_why(tmp_path, script, error, words):
    with HostileWeb(script) as web:
        begun = time.monotonic()
        with pytest.raises(error, match=re.escape(words)) as raised:
            archive(web.url, tmp_path).find(StudyQuery(), 10)
        assert time.monotonic() - begun < SECONDS + MARGIN
    assert type(raised.value) is error


def test_a_redirection_is_not_followed_nor_read_and_the_token_stays_here(tmp_path):
    with HostileWeb(always(answer(b"[]"))) as other:

        def redirects(web, path):
            yield f"HTTP/1.1 302 Found\r\nLocation: {other.url}/\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            yield from itertools.repeat(chunk(b" " * 65536))

        with HostileWeb(redirects) as web:
            with pytest.raises(PeerRefused, match="302: it redirects"):
                archive(web.url, tmp_path, token="secret").find(StudyQuery(), 10)
            assert "Bearer secret" in web.requests[0]
        assert other.requests == []


def test_pages_that_never_end_are_asked_for_no_longer_than_needed(tmp_path):
    def another(web, path):
        yield answer(listed([(uid(f"study {len(web.requests)}"), "", "")]))

    with HostileWeb(another) as web:
        page = archive(web.url, tmp_path).find(StudyQuery(), 3)
        assert (len(page.studies), page.complete, len(web.requests)) == (3, False, 4)


STUDY = uid("study")
WANTED = build_cr(instance="wanted")


def listed(uids):
    """Return an answer in DICOM JSON that names study, series and instance."""
    tags = ("0020000D", "0020000E", "00080018")
    answers = [{tag: {"vr": "UI", "Value": [it]} for tag, it in zip(tags, each, strict=True)} for each in uids]
    return json.dumps(answers).encode()


def parts(*contents, end=b"--\r\n"):
    lines = b"".join(b"\r\n--edge\r\nContent-Type: application/dicom\r\n\r\n" + each for each in contents)
    return lines + b"\r\n--edge" + end


def endless_instance(web, path):
    yield f"HTTP/1.1 200 OK\r\nContent-Type: {MULTIPART}\r\n\r\n".encode() + parts(part10_bytes(WANTED))[:500]
    yield from itertools.repeat(bytes(65536))


def broken_off(web, path):
    """End before the last boundary, in an answer that does not say its length."""
    whole = parts(part10_bytes(WANTED))
    yield f"HTTP/1.1 200 OK\r\nContent-Type: {MULTIPART}\r\n\r\n".encode() + whole[:-40]


def instance(*contents, content_type=MULTIPART, **values):
    return always(answer(parts(*contents, **values), content_type))


OTHER_STUDY = part10_bytes(build_cr(study="other", instance="wanted"))
OTHER_INSTANCE = part10_bytes(build_cr(instance="other"))
INSTANCES = {
    "endless": (endless_instance, "sends more than 1048576 bytes"),
    "broken off": (broken_off, "its last boundary is missing"),
    "two in one": (instance(part10_bytes(WANTED), part10_bytes(WANTED)), "does not hold one instance"),
    "none": (always(answer(b"--edge--\r\n", MULTIPART)), "its last boundary is missing"),
    "no boundary": (instance(part10_bytes(WANTED), content_type="multipart/related"), "no multipart message"),
    "a page": (always(answer(b"<html>Welcome</html>", "text/html")), "no multipart message"),
    "no DICOM": (instance(b"<html>Welcome</html>"), "did not arrive"),
    "half of it": (instance(part10_bytes(WANTED)[:200]), "did not arrive"),
    "another study's": (instance(OTHER_STUDY), "it was refused here"),
    "another instance": (instance(OTHER_INSTANCE), "it was refused here"),
    "gone": (always(answer(b"", status="404 Gone")), "404: it knows no such resource"),
}


@pytest.mark.parametrize(("script", "words"), INSTANCES.values(), ids=INSTANCES)
def test_an_instance_that_does_not_come_whole_is_counted_as_failed_and_not_kept(tmp_path, script, words):
    receipt, intake = retrieve(tmp_path, script)
    assert (receipt.completed, receipt.failed) == (0, 1)
    assert words in receipt.reason
    assert intake.registrations == []
    assert list((tmp_path / "store" / "instances").rglob("*.dcm")) == []


@pytest.mark.parametrize("script", [slow_headers, slow_body, silence, cut_short, always(answer(b"", status="503 No"))])
def test_a_server_that_fails_in_the_middle_of_a_retrieval_is_to_be_asked_later(tmp_path, script):
    begun = time.monotonic()
    with pytest.raises((PeerUnreachable, PeerBusy)) as raised:
        retrieve(tmp_path, script)
    assert raised.value.retryable
    assert time.monotonic() - begun < SECONDS + MARGIN


def test_a_whole_instance_is_kept(tmp_path):
    receipt, intake = retrieve(tmp_path, instance(part10_bytes(WANTED)))
    assert (receipt.completed, receipt.failed) == (1, 0)
    assert len(intake.files) == 1


def retrieve(folder, script):
    """Retrieve a study of one instance, which a script answers with."""

    def study(web, path):
        if "/series/" in path:
            yield from script(web, path)
        else:
            yield answer(listed([(STUDY, WANTED.SeriesInstanceUID, WANTED.SOPInstanceUID)]))

    intake = FakeIntake()
    with HostileWeb(study) as web:
        receive = Reception(InstanceStore(folder / "store"), intake).receive
        return archive(web.url, folder).retrieve(STUDY, receive), intake


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("HTTP_PROXY", "ftp://user:secret-word@127.0.0.1"),
        ("SSL_CERT_FILE", "/nowhere/authorities.pem"),
    ],
)
def test_a_proxy_or_certificates_that_cannot_be_used_are_a_setback_of_the_archive(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(PeerUnreachable, match="SSL_CERT_FILE") as refused:
        BoundedSession(DicomwebServer("web", "http://127.0.0.1:1", 1, 1, 1 << 20))
    assert "secret-word" not in str(refused.value)
