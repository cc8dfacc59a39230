"""A page that was closed is forgotten after a while, without another page being closed; one that is open never is."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from streamlit.runtime.memory_session_storage import MemorySessionStorage

from tests.databases import Clock
from worker.ui.access import stale_sessions
from worker.ui.access.stale_sessions import CLOSED_SECONDS, LOOK_SECONDS, StaleSessions


@pytest.fixture
def pages():
    return {"open": True, "closed": False}


@pytest.fixture
def closed():
    return []


@pytest.fixture
def looking(pages, closed):
    clock = Clock()

    def close(session):
        closed.append(session)
        del pages[session]

    watch = StaleSessions(pages.keys, pages.get, close, lambda: clock().timestamp())

    def look(seconds=0.0):
        clock.advance(seconds)
        watch.look()

    return look


def test_what_was_uploaded_on_a_closed_page_goes_after_a_while_and_an_open_one_keeps_its_own(looking, closed, pages):
    looking()
    looking(CLOSED_SECONDS - 1)
    assert closed == []
    looking(1)
    assert closed == ["closed"]
    looking(CLOSED_SECONDS)
    assert list(pages) == ["open"]


def test_who_comes_back_in_time_finds_everything(looking, closed, pages):
    looking()
    pages["closed"] = True
    looking(CLOSED_SECONDS)
    pages["closed"] = False
    looking(CLOSED_SECONDS)
    looking(CLOSED_SECONDS - 1)
    assert closed == []
    looking(1)
    assert closed == ["closed"]


def test_a_page_is_closed_before_streamlit_lets_go_of_it():
    """After that nobody can close it any more, and what was uploaded on it would stay."""
    ttl = inspect.signature(MemorySessionStorage).parameters["ttl_seconds"].default
    assert ttl > CLOSED_SECONDS + 2 * LOOK_SECONDS


def test_a_look_that_fails_is_not_the_last(monkeypatch):
    monkeypatch.setattr(stale_sessions, "LOOK_SECONDS", 0)
    looks = []

    def holding():
        looks.append(len(looks))
        if len(looks) == 1:
            raise RuntimeError
        if len(looks) == 3:
            raise asyncio.CancelledError
        return ()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(StaleSessions(holding, bool, print).watch())
    assert looks == [0, 1, 2]
