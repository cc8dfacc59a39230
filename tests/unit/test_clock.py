"""The clock sends what is due while it is this scheduler's turn, and nothing else."""

from __future__ import annotations

from celery import Celery
from worker.queue.beat import build_clock

from tests.peers import wait_until


class FakeTurn:
    mine = False

    def held(self):
        return self.mine


def test_a_clock_sends_nothing_until_its_turn_comes_and_stops_when_it_is_over():
    app = Celery("clock", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {"sweep": {"task": "sweep", "schedule": 0.05, "options": {"queue": "control"}}}
    sent = []
    app.send_task = lambda name, *_, **__: sent.append(name)
    turn = FakeTurn()
    scheduler = build_clock(app, turn).service.get_scheduler()
    assert scheduler.tick() > 0
    assert sent == []
    turn.mine = True
    wait_until(lambda: scheduler.tick() is not None and len(sent) >= 2, 20, "two sweeps")
    turn.mine = False
    seen = len(sent)
    assert [scheduler.tick() for _ in range(3)] == [0.5] * 3
    assert len(sent) == seen
