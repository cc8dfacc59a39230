"""Of several schedulers one schedules, and another takes over."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select, update

from worker.db.tables import Event, Scheduler, SchedulerLease, utc_now
from worker.errors import DatabaseUnavailable
from worker.queue.scheduling import Identity, Turn, give_up, present, take

FIRST, SECOND = Identity("1", "first:1"), Identity("2", "second:2")


def fall_silent(database):
    """Let the lease of the holder be over."""
    with database.write() as session:
        session.execute(update(SchedulerLease).values(lease_until=utc_now() - timedelta(seconds=1)))


def test_the_second_stands_by_while_the_first_renews_its_lease(database):
    assert [take(database, who, 30) for who in (FIRST, SECOND, FIRST, SECOND)] == [True, False, True, False]
    assert [(each.name, each.schedules) for each in present(database)] == [("first:1", True), ("second:2", False)]


def test_the_second_takes_over_from_one_that_fell_silent_and_the_first_does_not_get_it_back(database):
    take(database, FIRST, 30)
    fall_silent(database)
    assert [take(database, who, 30) for who in (SECOND, FIRST)] == [True, False]
    assert [(each.name, each.schedules) for each in present(database)] == [("second:2", True), ("first:1", False)]


def test_a_lease_that_was_given_up_is_free_at_once_and_only_its_holder_can(database):
    take(database, FIRST, 30)
    give_up(database, SECOND)
    assert not take(database, SECOND, 30)
    give_up(database, FIRST)
    assert take(database, SECOND, 30)
    assert [each.name for each in present(database)] == ["second:2"]


def test_each_change_of_the_scheduler_is_on_record(database):
    for who in (FIRST, FIRST, SECOND):
        take(database, who, 30)
    fall_silent(database)
    take(database, SECOND, 30)
    with database.read() as session:
        kept = session.scalars(select(Event.detail).where(Event.kind == "scheduler").order_by(Event.id)).all()
    assert kept == [{"name": "first:1"}, {"name": "second:2"}]


def test_schedulers_that_are_long_gone_are_forgotten(database):
    take(database, FIRST, 30)
    with database.write() as session:
        session.execute(update(Scheduler).values(seen_at=utc_now() - timedelta(days=1)))
    take(database, SECOND, 30)
    with database.read() as session:
        assert session.scalars(select(Scheduler.token)).all() == ["2"]


class Seconds:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_a_holder_stops_its_clock_before_its_lease_is_over_when_nobody_answers_it(database, monkeypatch):
    seconds = Seconds()
    turn = Turn(database, 30, FIRST, seconds)
    turn.ask()
    monkeypatch.setattr("worker.queue.scheduling.take", lambda *_: (_ for _ in ()).throw(DatabaseUnavailable("away")))
    seconds.now += 26
    turn.ask()
    assert turn.held()
    seconds.now += 1.5
    assert not turn.held()


def test_a_holder_whose_lease_another_took_stops_its_clock_at_once(database):
    turn = Turn(database, 30, FIRST)
    turn.ask()
    assert turn.held()
    fall_silent(database)
    take(database, SECOND, 30)
    turn.ask()
    assert not turn.held()


def test_a_turn_that_ends_gives_its_lease_up(database):
    turn = Turn(database, 30, FIRST)
    turn.ask()
    turn.stop()
    assert not turn.held()
    assert take(database, SECOND, 30)
