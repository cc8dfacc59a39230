"""Archive work in chunks: so many studies, for so long, several at once.

    study threads   claim a job, read, decode, ask the model, build the report, commit; then the next
    the task's own  answers them (`worker.queue.shared_analyzer`): one study is decoded while the model looks at another

Every study stays what it is alone: its own claim, lease and transaction. One that fails, or whose lease is lost, does
not touch the others, and a worker that is killed leaves so many leases to run out.

Today's work comes first: a chunk ends soon, and until it does every thread asks SQL for live jobs before it claims an
archive one, and now and then between the images of a long study.

Where a model runs in shadow, what a chunk leaves room for is its: one study after the other, in the task's own thread,
and only while nothing waits that is to be answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from models.types import ModelError
from worker.db.tables import utc_now
from worker.errors import DatabaseError, EnvironmentUnfit
from worker.queue.attempt import UNFIT_WAIT_SECONDS, attempt, worker_name
from worker.queue.bootstrap import Runtime
from worker.queue.chunk_rule import CHUNK_STUDIES, ChunkRule
from worker.queue.shared_analyzer import SharedAnalyzer
from worker.study import jobs
from worker.study.jobs import Claim
from worker.study.pipeline import Collaborators
from worker.study.queues import ARCHIVE, LIVE

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often a long study asks whether a live job waits."""
GIVE_WAY_SECONDS = 600.0
"""How long a long study gives way to live jobs, of the time that a task may take (`TIME_LIMIT_SECONDS`)."""


def run_chunk(runtime: Runtime, elapsed: Callable[[], float] = time.monotonic) -> int:
    """Analyse a chunk of the archive jobs that wait; return how many jobs were claimed.

    1. Load the model, before the first claim; a worker without one puts off as many jobs and says why.
    2. Start the study threads.
    3. Answer them until all of them are done.
    4. Do jobs of the model in shadow with what is left of the chunk.
    """
    try:
        parts = runtime.pipeline()
        rule = runtime.chunk_rule(parts.analyzer)
    except EnvironmentUnfit as error:
        log.error("worker_cannot_analyse", reason=str(error))  # noqa: TRY400 - the words say it all
        _put_off(runtime, str(error))
        return 0
    shared = SharedAnalyzer(parts.analyzer, rule.at_once)
    chunk = _Chunk(replace(parts, analyzer=shared), runtime, rule, elapsed)
    threads = [
        threading.Thread(target=chunk.work, args=(shared.leave,), name=f"study-{number}", daemon=True)
        for number in range(rule.at_once)
    ]
    for thread in threads:
        thread.start()
    shared.serve()
    for thread in threads:
        thread.join()
    rest = replace(rule, studies=rule.studies - chunk.claimed)
    return chunk.claimed + _run_shadow(_Chunk(parts, runtime, rest, elapsed))


def _run_shadow(chunk: _Chunk) -> int:
    """Do jobs of the model in shadow; a worker that cannot load it puts off as many and says why."""
    try:
        analyzer = chunk.runtime.shadow_analyzer()
    except EnvironmentUnfit as error:
        log.error("worker_cannot_run_shadow", reason=str(error))  # noqa: TRY400 - the words say it all
        _put_off_shadows(chunk.runtime, str(error))
        return 0
    if analyzer is not None:
        parts = replace(chunk.parts, analyzer=analyzer)
        while (held := chunk.next_shadow(analyzer.version)) is not None:
            attempt(held, parts, chunk.runtime, chunk.give_way)
    return chunk.claimed


class _Chunk:
    """What the study threads share."""

    def __init__(self, parts: Collaborators, runtime: Runtime, rule: ChunkRule, elapsed: Callable[[], float]) -> None:
        self.claimed = 0
        self.parts = parts
        self.runtime = runtime
        self._rule = rule
        self._elapsed = elapsed
        self._started = self._looked = elapsed()
        self._lock = threading.Lock()

    def work(self, leave: Callable[[], None]) -> None:
        """Do one job after the other; a study thread's whole life."""
        try:
            while (held := self._next()) is not None:
                attempt(held, self.parts, self.runtime, self.give_way)
        except DatabaseError as error:
            log.warning("archive_jobs_wait_for_database", reason=str(error))
        except Exception as error:  # noqa: BLE001 - a thread's edge: the others go on
            # The name alone: messages of foreign errors may quote a header.
            log.error("study_thread_failed", error=type(error).__name__)  # noqa: TRY400
        finally:
            leave()

    def _next(self) -> Claim | None:
        with self._lock:
            if self._is_over():
                return None
            # Claims of one process follow each other; so do the writers of an SQLite file.
            held = self._claim_live() or self._claim(ARCHIVE)
            self.claimed += held is not None
            return held

    def next_shadow(self, version: str) -> Claim | None:
        """Claim a job of the model in shadow, unless there is something to answer."""
        with self._lock:
            if self._is_over() or self._waits(LIVE) or self._waits(ARCHIVE):
                return None
            held = self._claim(ARCHIVE, shadow=version)
            self.claimed += held is not None
            return held

    def _is_over(self) -> bool:
        return self.claimed >= self._rule.studies or self._elapsed() - self._started >= self._rule.seconds

    def give_way(self) -> None:
        """Do the live jobs that wait, between two images of a study."""
        try:
            while (held := self._overtaking()) is not None:
                attempt(held, self.parts, self.runtime)
        except DatabaseError as error:
            log.warning("live_jobs_wait_for_database", reason=str(error))

    def _overtaking(self) -> Claim | None:
        with self._lock:
            now = self._elapsed()
            if now - self._looked < LOOK_SECONDS or now - self._started > GIVE_WAY_SECONDS:
                return None
            held = self._claim_live()
            if held is None:
                self._looked = now
            return held

    def _claim_live(self) -> Claim | None:
        # Asked as a reader first: most of the time there is none, and a claim would wait for its turn to write.
        return self._claim(LIVE) if self._waits(LIVE) else None

    def _waits(self, lane: str) -> bool:
        return bool(jobs.due_jobs(self.parts.database, lane, now=utc_now(), limit=1))

    def _claim(self, lane: str, shadow: str | None = None) -> Claim | None:
        return jobs.claim_next(
            self.parts.database,
            lane,
            worker=worker_name(),
            lease_seconds=self.runtime.settings.lease_seconds,
            now=utc_now(),
            shadow=shadow,
        )


def _put_off_shadows(runtime: Runtime, reason: str) -> None:
    try:
        version = runtime.shadow_version()
    except ModelError:  # its very manifest cannot be read: nobody knows whose jobs these are
        return
    if version is not None:
        _put_off(runtime, reason, shadow=version)


def _put_off(runtime: Runtime, reason: str, shadow: str | None = None) -> None:
    for job_id in jobs.due_jobs(runtime.database, ARCHIVE, now=utc_now(), limit=CHUNK_STUDIES, shadow=shadow):
        jobs.postpone(runtime.database, job_id, reason=reason, now=utc_now(), wait_seconds=UNFIT_WAIT_SECONDS)
