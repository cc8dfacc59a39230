"""When the night begins and ends, in the time zone of the site."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest

from worker.settings.night import NightRule, night_of, parse_crontab

BERLIN = NightRule("0 22 * * *", "Europe/Berlin", time(6, 0))


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_by_day_there_is_no_night():
    assert night_of(BERLIN, at("2026-03-02T12:00")) is None


def test_a_night_begins_and_ends_in_the_time_of_the_site():
    night = night_of(BERLIN, at("2026-03-02T23:30"))
    assert (night.start, night.until) == (at("2026-03-02T21:00"), at("2026-03-03T05:00"))


def test_a_scheduler_that_comes_late_still_finds_the_night():
    first, late = night_of(BERLIN, at("2026-03-02T21:00")), night_of(BERLIN, at("2026-03-03T04:59"))
    assert first == late


def test_a_night_across_the_change_of_the_clocks_ends_by_the_clock_on_the_wall():
    night = night_of(BERLIN, at("2026-03-29T00:30"))  # clocks go from 02:00 to 03:00 at 01:00 UTC
    assert (night.start, night.until) == (at("2026-03-28T21:00"), at("2026-03-29T04:00"))


def test_without_an_end_a_night_lasts_until_the_next():
    night = night_of(NightRule("0 22 * * *"), at("2026-03-03T12:00"))
    assert night.until == at("2026-03-03T22:00")


def test_only_the_days_of_the_week_that_were_asked_for_have_a_night():
    weekends = NightRule("0 22 * * sat,sun", end=time(6))
    assert night_of(weekends, at("2026-03-06T23:00")) is None
    assert night_of(weekends, at("2026-03-07T23:00")) is not None
    assert night_of(weekends, at("2026-03-08T23:00")) is not None


@pytest.mark.parametrize("words", ["22 0", "* * * * * *", "61 22 * * *", "a b c d e"])
def test_a_crontab_that_cannot_be_read_is_refused(words):
    with pytest.raises(ValueError, match=r"five fields|cannot be read"):
        parse_crontab(words)
