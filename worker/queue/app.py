"""The Celery application, and the two workers that serve its queues.

    work      processes (prefork), queues live and archive, live first; each child loads the model on its first job
    schedule  threads, queue control: the sweep and the deliveries; the clock that asks for sweeps is a thread in it;
              several schedulers may run, for whatever they do is claimed in SQL piece by piece

Celery carries ids and nothing else. A message is acknowledged when its task has ended, and returns to the queue when
its process died; either way it only says where to look.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from typing import Any, Literal

from celery import Celery, signals
from celery.beat import EmbeddedService, Scheduler
from kombu import Exchange
from kombu import Queue as QueueDeclaration

from worker.db.database import open_database
from worker.process.liveness import LivenessFile, liveness_path
from worker.process.readiness import announce_ready
from worker.process.subreaper import die_with_parent
from worker.queue import redis_transport
from worker.queue.bootstrap import Runtime
from worker.queue.broker import broker_url
from worker.queue.presence import Presence
from worker.queue.tasks import register
from worker.settings.settings import Settings
from worker.study.queues import ANALYSIS_QUEUES, CONTROL, QUEUES, REANALYZE, SWEEP, CeleryQueue, Queue

Role = Literal["work", "schedule"]

VISIBILITY_SECONDS = 3600
"""After this Redis gives an unacknowledged message to another worker, which then finds nothing to claim."""
TIME_LIMIT_SECONDS = 1800
"""A study that takes longer hangs: its process is ended, its lease runs out, and the attempt is counted."""
CONTROL_THREADS = 8


def create_app(settings: Settings, make_runtime: Callable[[Settings, Queue], Runtime] = Runtime) -> Celery:
    """Return the application, configured, with its tasks. Nothing is connected yet."""
    redis_transport.use()
    app = Celery("bonewatch", broker=broker_url(settings), backend=None, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_serializer="json",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=TIME_LIMIT_SECONDS,
        worker_prefetch_multiplier=1,
        # The default exchange routes by the queue's name alone: no binding is kept in Redis that a wipe could take.
        task_queues=[QueueDeclaration(name, Exchange(""), routing_key=name) for name in QUEUES],
        task_default_queue=CONTROL,
        task_create_missing_queues=False,
        broker_connection_retry_on_startup=True,
        broker_connection_retry=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "queue_order_strategy": "priority",
            "visibility_timeout": VISIBILITY_SECONDS,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        # SQL and `bonewatch status` tell what runs; without these Redis holds nothing but the three queues.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_prefetch_count_reduction=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        timezone="UTC",
        enable_utc=True,
        beat_schedule={
            "sweep": {
                "task": SWEEP,
                "schedule": settings.sweep_seconds,
                # A sweep that nobody came to is not worth catching up on: the next one does the same.
                "options": {"queue": CONTROL, "expires": max(2 * settings.sweep_seconds, 10.0), "retry": False},
            },
            "reanalysis": {
                "task": REANALYZE,
                "schedule": settings.sweep_seconds,
                "options": {"queue": CONTROL, "expires": max(2 * settings.sweep_seconds, 10.0), "retry": False},
            },
        },
    )
    register(app, make_runtime(settings, CeleryQueue(app)))
    return app


def run_worker(role: Role, settings: Settings, make_runtime: Callable[[Settings, Queue], Runtime] = Runtime) -> int:
    """Serve a role's queues until SIGTERM or SIGINT, then finish what runs and return the exit status."""
    app = create_app(settings, make_runtime)
    signals.setup_logging.connect(_keep_logging, weak=False)
    # Four lines a sweep, every few seconds, would hide what matters.
    logging.getLogger("celery").setLevel(logging.WARNING)
    signals.worker_ready.connect(_ready, weak=False)
    liveness = LivenessFile(liveness_path(settings.run_folder, role))
    ends: list[Callable[[], None]] = [liveness.stop]
    signals.worker_ready.connect(_starter(liveness), weak=False)
    if role == "work":
        signals.worker_process_init.connect(_follow_parent(os.getpid()), weak=False)
        arguments = _arguments(ANALYSIS_QUEUES, "prefork", settings.analysis_processes)
    else:
        arguments = _arguments((CONTROL,), "threads", CONTROL_THREADS)
        database = open_database(settings.sqlalchemy_url())
        presence = Presence(database)
        ends += [presence.stop, database.close]
        # Celery's default would keep a file of when it sent what; after a restart everything is due at once anyway.
        clock = EmbeddedService(app, thread=True, scheduler_cls=Scheduler)
        signals.worker_ready.connect(_starter(presence), weak=False)
        signals.worker_ready.connect(_starter(clock), weak=False)
        signals.worker_shutting_down.connect(_stopper(clock), weak=False)
    try:
        app.worker_main(["--quiet", *arguments, "--hostname", f"{role}-{os.getpid()}@%h"])
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        for end_it in ends:
            end_it()
    return 0


def _arguments(queues: tuple[str, ...], pool: str, concurrency: int) -> list[str]:
    return [
        "worker",
        "--queues", ",".join(queues),
        "--pool", pool,
        "--concurrency", str(concurrency),
        "--without-gossip", "--without-mingle", "--without-heartbeat",
        "--loglevel", "WARNING",
    ]  # fmt: skip


def _keep_logging(**_: Any) -> None:
    """Keep the logging that the process has set up; Celery leaves it alone when this signal has a receiver."""


def _ready(**_: Any) -> None:
    announce_ready()


def _starter(thread: Any) -> Callable[..., None]:
    def start(**_: Any) -> None:
        thread.start()

    return start


def _stopper(clock: Any) -> Callable[..., None]:
    def stop(**_: Any) -> None:
        clock.service.stop(wait=False)

    return stop


def _follow_parent(parent: int) -> Callable[..., None]:
    """Return what makes a pool process die with the worker it belongs to, however that one ends (prctl(2))."""

    def follow(**_: Any) -> None:
        die_with_parent()
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), signal.SIGKILL)

    return follow
