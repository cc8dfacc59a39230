"""How patient deliveries are: the distances between sending, asking, and doing either again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.study.backoff import delay_seconds


@dataclass(frozen=True, slots=True)
class DeliveryRule:
    """How patient deliveries are. Seconds throughout."""

    lease_seconds: float = 300.0
    backoff_seconds: float = 5.0
    backoff_maximum_seconds: float = 600.0
    commitment_wait_seconds: float = 5.0
    commitment_timeout_seconds: float = 300.0
    commitment_attempts: int = 3
    maximum_parallel: int = 2

    def backoff(self, attempts: int) -> float:
        """Return the wait after the given number of attempts."""
        return delay_seconds(attempts, self.backoff_seconds, self.backoff_maximum_seconds)

    def give_up_asking_after(self) -> float:
        """Return how long after sending an unanswered report is sent again."""
        return self.commitment_timeout_seconds * float(2**self.commitment_attempts - 1)

    def next_question(self, sent_at: datetime, now: datetime) -> datetime:
        """Return when to ask again for a commitment: 1, 3, 7 ... times the timeout after sending."""
        for asked in range(1, self.commitment_attempts + 1):
            moment = sent_at + timedelta(seconds=self.commitment_timeout_seconds * (2**asked - 1))
            if moment > now:
                return moment
        return now + timedelta(seconds=self.commitment_timeout_seconds)
