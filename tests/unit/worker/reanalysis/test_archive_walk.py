"""The windows of time in which a plan goes through an archive."""

from __future__ import annotations

import itertools
from datetime import date, datetime, time

import pytest

from tests.databases import MORNING
from worker.db.tables import ReanalysisRun
from worker.reanalysis.date_windows import LARGEST_MINUTES, walk_of
from worker.reanalysis.runs import Request


def walk(cursor=None, moment=None, minutes=None, **request):
    run = ReanalysisRun(cursor_date=cursor, cursor_time=moment, window_minutes=minutes, created_at=MORNING)
    return walk_of(run, Request(source="archive", **request))


at = datetime.fromisoformat


def windows(place, widen=False, most=10_000):
    """Walk to the end, and return the windows."""
    found = []
    while not place.is_over:
        found.append(place.window())
        place = place.moved(widen=widen)
        assert len(found) < most
    return found


def test_the_first_window_is_the_newest_day_of_the_request():
    question = walk(since=date(2026, 1, 1), until=date(2026, 1, 31)).question(Request())
    assert (question.first, question.last, question.first_time) == (date(2026, 1, 31), date(2026, 1, 31), None)


@pytest.mark.parametrize("direction", ["newest", "oldest"])
@pytest.mark.parametrize("minutes", [1440, 720, 45, 4 * 1440])
def test_windows_of_any_size_cover_all_days_without_a_gap(direction, minutes):
    days = {"since": date(2026, 1, 1), "until": date(2026, 1, 9)}
    found = windows(walk(minutes=minutes, direction=direction, **days))
    ordered = sorted(found)
    assert ordered == (found if direction == "oldest" else found[::-1])
    assert (ordered[0][0], ordered[-1][1]) == (at("2026-01-01T00:00"), at("2026-01-10T00:00"))
    assert all(end == first for (_, end), (first, _) in itertools.pairwise(ordered))


def test_a_part_of_a_day_is_asked_for_by_time_and_open_at_midnight():
    late, early = walk("20260202", minutes=720).question(Request()), walk("20260201", "1200", 720).question(Request())
    assert (late.first, late.last, late.first_time, late.last_time) == (
        date(2026, 2, 1), date(2026, 2, 1), time(12), None,
    )  # fmt: skip
    assert (early.first, early.first_time, early.last_time) == (date(2026, 2, 1), None, time(12))


def test_a_window_is_halved_from_years_to_a_minute_and_no_further():
    place, sizes = walk("20260201", minutes=LARGEST_MINUTES), []
    while (narrower := place.narrowed()) is not None:
        place = narrower
        sizes.append(place.minutes)
    assert sizes[-1] == 1
    assert all(size % 1440 == 0 for size in sizes if size > 1440)


def test_the_empty_past_takes_a_few_questions():
    assert len(windows(walk(), widen=True)) < 30


def test_a_walk_goes_on_from_its_columns():
    there = walk("20260202", minutes=90).moved(widen=False)
    columns = there.columns()
    again = walk(columns["cursor_date"], columns["cursor_time"], columns["window_minutes"])
    assert again.window() == (at("2026-02-01T21:00"), at("2026-02-01T22:30"))
