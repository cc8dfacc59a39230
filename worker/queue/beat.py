"""The clock of the scheduler whose turn it is: Celery's own, which stands still while another scheduler's runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.beat import EmbeddedService, Scheduler

if TYPE_CHECKING:
    from celery import Celery

    from worker.queue.scheduling import Turn

_STANDBY_SECONDS = 0.5


class TurnScheduler(Scheduler):  # type: ignore[misc] # celery is untyped
    """Celery's scheduler, which sends nothing while the turn is not ours. What is due when it becomes so goes once.

    `turn` is set on a subclass: Celery makes the object itself.
    """

    turn: Turn

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send what is due, if it is our turn; return the seconds to wait."""
        if not self.turn.held():
            return _STANDBY_SECONDS
        return float(super().tick(*arguments, **options))

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send one, after a last look."""
        if self.turn.held():
            super().apply_entry(entry, producer)


def build_clock(app: Celery, turn: Turn) -> Any:
    """Return the clock as a thread that is not started."""
    return EmbeddedService(app, thread=True, scheduler_cls=type("OurTurn", (TurnScheduler,), {"turn": turn}))
