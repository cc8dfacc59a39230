"""The room for uploads: what finds a place beside what lies there and what is arriving, and what does not."""

from __future__ import annotations

import asyncio

import pytest

from worker.ui.access.login import NAME_HEADER
from worker.ui.access.upload_quota import Quota, UploadQuota

MIB = 2**20


class Held:
    """What lies there, and an application that puts there what reaches it, unless it is told to wait."""

    def __init__(self):
        self.files, self.reached, self.may_end = {}, 0, asyncio.Event()
        self.may_end.set()

    async def app(self, scope, receive, send):
        self.reached += 1
        await self.may_end.wait()
        *_, session, file = scope["path"].split("/")
        self.files.setdefault(session, {})[file] = int(dict(scope["headers"]).get(b"x-size", b"0"))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def held():
    return Held()


@pytest.fixture
def room(held):
    """Three files a session, of one MiB each at most."""
    return UploadQuota(held.app, Quota(files=3, file_bytes=MIB), lambda: held.files)


async def put(room, session, file, *, size=1, name="ada", says_size=True, chunked=False, method="PUT"):
    headers = [(NAME_HEADER.encode(), name.encode()), (b"x-size", b"%d" % size)]
    headers += [(b"content-length", b"%d" % size)] if says_size else []
    headers += [(b"transfer-encoding", b"chunked")] if chunked else []
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError("nothing of what is refused is read")

    path = f"/_stcore/upload_file/{session}/{file}"
    await room({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    return sent[0]["status"]


async def fill(room, session, number=3, **how):
    return [await put(room, session, f"file{place}", **how) for place in range(number)]


def test_a_session_holds_so_many_files_and_another_one_has_its_own(room):
    async def story():
        assert await fill(room, "a") == [204, 204, 204]
        assert await put(room, "a", "more") == 413
        assert await put(room, "b", "first") == 204

    asyncio.run(story())


def test_a_file_taken_away_frees_its_room_and_one_sent_again_takes_its_own(room, held):
    async def story():
        await fill(room, "a")
        assert await put(room, "a", "file1") == 204
        del held.files["a"]["file0"]
        assert await put(room, "a", "more") == 204
        assert await put(room, "a", "yet-another") == 413

    asyncio.run(story())


def test_the_files_of_all_pages_of_a_person_are_bounded_together(room):
    async def story():
        assert await fill(room, "a", size=MIB) == [204, 204, 204]
        assert await put(room, "b", "small") == 413
        assert await put(room, "c", "small", name="bob") == 204

    asyncio.run(story())


@pytest.mark.parametrize("says_size", [False, True])
def test_who_does_not_say_how_large_a_file_is_or_sends_it_in_chunks_needs_room_for_the_largest(room, says_size):
    async def story():
        assert await fill(room, "a", 2, size=MIB) == [204, 204]
        assert await put(room, "b", "one", size=10) == 204
        assert await put(room, "b", "two", size=10, says_size=says_size, chunked=True) == 413

    asyncio.run(story())


def test_what_is_still_arriving_counts_also_under_one_name(room, held):
    async def story():
        held.may_end.clear()
        waiting = [asyncio.create_task(put(room, "a", "same")) for _ in range(3)]
        await asyncio.sleep(0)
        assert held.reached == 3
        assert await put(room, "a", "same") == 413
        held.may_end.set()
        assert await asyncio.gather(*waiting) == [204, 204, 204]
        assert await put(room, "a", "another") == 204, "they have taken one place, and no longer arrive"

    asyncio.run(story())


def test_what_is_no_upload_passes(room):
    async def story():
        await fill(room, "a")
        assert await put(room, "a", "more", method="DELETE") == 204

    asyncio.run(story())
