"""The queue as a port: messages that say where to look, and how many of them wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from celery import Celery
from kombu.exceptions import ChannelError, OperationalError

from worker.errors import QueueUnavailable

LIVE = "live"
ARCHIVE = "archive"
CONTROL = "control"
ANALYSIS_QUEUES = (LIVE, ARCHIVE)
QUEUES = (LIVE, ARCHIVE, CONTROL)

ANALYZE = "bonewatch.analyze"
CHUNK = "bonewatch.chunk"
DELIVER = "bonewatch.deliver"
SWEEP = "bonewatch.sweep"
REANALYZE = "bonewatch.reanalyze"


class Queue(Protocol):
    """Where messages go. All of it raises QueueUnavailable when the broker does not answer."""

    def send_job(self, job_id: int, lane: str) -> None:
        """Say that a job waits in a lane."""

    def send_chunk(self) -> None:
        """Say that archive jobs wait; whoever hears it takes a chunk of them."""

    def send_delivery(self, delivery_id: int) -> None:
        """Say that a delivery is due."""

    def waiting(self, name: str) -> int:
        """Return how many messages wait in a queue, those at a worker left out."""


class CeleryQueue:
    """The queue behind a Celery application."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send_job(self, job_id: int, lane: str) -> None:
        """Say that a job waits in a lane."""
        self._send(ANALYZE, lane, job_id)

    def send_chunk(self) -> None:
        """Say that archive jobs wait; whoever hears it takes a chunk of them."""
        self._send(CHUNK, ARCHIVE)

    def send_delivery(self, delivery_id: int) -> None:
        """Say that a delivery is due."""
        self._send(DELIVER, CONTROL, delivery_id)

    def waiting(self, name: str) -> int:
        """Return how many messages wait in a queue, those at a worker left out."""
        return self.lengths((name,))[name]

    def lengths(self, names: tuple[str, ...] = QUEUES) -> Mapping[str, int]:
        """Return how many messages wait in each queue."""
        with _translated(), self._app.connection_for_read() as connection:
            # One try: whoever asks has something better to do than to wait for a broker that is down.
            connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=3.0)
            return {name: _length(connection.default_channel, name) for name in names}

    def _send(self, task: str, queue: str, *row_ids: int) -> None:
        with _translated():
            self._app.send_task(task, args=row_ids, queue=queue, retry=False, ignore_result=True)


def _length(channel: Any, name: str) -> int:
    try:
        return int(channel.queue_declare(queue=name, passive=True).message_count)
    except ChannelError:  # Redis knows no empty lists: a queue without messages is not there
        return 0


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, OSError) as error:
        raise QueueUnavailable(f"the broker does not answer ({type(error).__name__})") from error
