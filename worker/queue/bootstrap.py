"""The one place that puts the parts together.

A `Runtime` is cheap and opens nothing. Each part is made when it is first asked for, in the process that asks: a
connection to the database and a model on a device must never cross a fork. The bundle is loaded by a worker's child on
its first job and kept.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import structlog

from dicom_io.pixels.frames import read_frames
from dicom_io.receive.listener import Listener
from dicom_io.report.structured_report import as_comprehensive_sr, build_report
from dicom_io.store.stores import Store
from models.manifest import SHIPPED, read_manifest
from models.types import BundleError, ModelError
from worker.db.database import Database, open_database
from worker.db.tables import utc_now
from worker.delivery.delivery import DeliveryCollaborators
from worker.delivery.pacs import RemotePacs
from worker.delivery.rule import DeliveryRule
from worker.errors import EnvironmentUnfit
from worker.queue.chunk_rule import AT_ONCE, CHUNK_STUDIES, ChunkRule
from worker.queue.sweep import SweepCollaborators, SweepRule
from worker.reanalysis.archives import build_archive, build_receive
from worker.reanalysis.limits import ReanalysisCollaborators, ReanalysisRule
from worker.reanalysis.parts import ArchiveParts, ArchiveRule
from worker.reanalysis.runs import ARCHIVE, Request
from worker.reception.receptions import build_intake, build_reception
from worker.settings.current_bundle import shadow_bundle
from worker.settings.night import NightRule
from worker.settings.settings import Settings
from worker.storage.stores import store_of
from worker.storage.unrecorded import UnrecordedFiles
from worker.study.companions import CompanionRule
from worker.study.pipeline import Collaborators, ReportRule, StudyAnalyzer
from worker.study.queues import Queue

log = structlog.get_logger(__name__)

MANUFACTURER = "bonewatch"
CURRENT, SHADOW = "current", "shadow"
Part = TypeVar("Part")


class Runtime:
    """The parts of one process, each made once, when it is needed.

    Parameters
    ----------
    settings : worker.settings.settings.Settings
        What the site chose.
    queue : worker.study.queues.Queue
        Where messages go.
    """

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self.settings = settings
        self.queue = queue
        self._parts: dict[str, Any] = {}
        self._process = os.getpid()
        self._lock = threading.RLock()

    @property
    def database(self) -> Database:
        """The database, checked to have this version's schema."""
        return self._once("database", lambda: open_database(self.settings.sqlalchemy_url()))

    @property
    def store(self) -> Store:
        """The files."""
        return self._once("store", lambda: store_of(self.settings))

    def analyzer(self) -> StudyAnalyzer:
        """Return the model of the bundle that is installed now; the first call, and one after a new bundle, loads it.

        Raises
        ------
        worker.errors.EnvironmentUnfit
            When it cannot be loaded here; the next call tries again.
        """
        with self._lock:
            try:
                installed = self.model_version()
            except BundleError:
                # A bundle that is just being replaced: what is loaded was checked and still answers for its version.
                kept = self._analyzers().get(CURRENT)
                return kept or self._take(CURRENT, None, self.settings.installed_bundle())
            return self._take(CURRENT, installed, self.settings.installed_bundle())

    def shadow_analyzer(self) -> StudyAnalyzer | None:
        """Return the model in shadow, None where there is none.

        Raises
        ------
        worker.errors.EnvironmentUnfit
            When it cannot be loaded here; the next call tries again.
        """
        with self._lock:
            try:
                version = self.shadow_version()
            except BundleError as error:
                raise EnvironmentUnfit(f"this worker cannot use the bundle in shadow: {error}") from error
            if version is None:
                self._analyzers().pop(SHADOW, None)
                return None
            return self._take(SHADOW, version, shadow_bundle(self.settings.home))

    def model_version(self) -> str:
        """Read the version of the bundle that is installed now, from its manifest alone."""
        return read_manifest(self.settings.installed_bundle() or SHIPPED).version

    def shadow_version(self) -> str | None:
        """Read the version of the bundle in shadow; None where there is none, or the same one answers.

        Raises
        ------
        models.types.BundleError
            When one of the two manifests cannot be read.
        """
        folder = shadow_bundle(self.settings.home)
        if folder is None:
            return None
        version = read_manifest(folder).version
        return None if version == self.model_version() else version

    def pipeline(self) -> Collaborators:
        """Return what an analysis works with."""
        settings = self.settings
        return Collaborators(
            database=self.database,
            store=self.store,
            read_frames=read_frames,
            analyzer=self.analyzer(),
            build_report=build_report,
            manufacturer=MANUFACTURER,
            destinations=tuple(destination.name for destination in settings.destinations),
            rule=ReportRule(settings.report_failed, settings.report_out_of_scope, settings.archive_reports),
            clock=utc_now,
            companions=CompanionRule(settings.marked_image, settings.presentation_state, settings.heat_map),
        )

    def chunk_rule(self, analyzer: StudyAnalyzer) -> ChunkRule:
        """Return how much archive work a worker takes on with this model."""
        size = analyzer.batch_size
        return ChunkRule(max(CHUNK_STUDIES, size), at_once=max(AT_ONCE, size))

    def deliverer(self) -> DeliveryCollaborators:
        """Return what a delivery works with."""
        return DeliveryCollaborators(
            database=self.database,
            store=self.store,
            pacs=RemotePacs(),
            fallback=self._fallback,
            destinations={each.name: each for each in self.settings.destinations_tuple()},
            rule=self.delivery_rule(),
            clock=utc_now,
        )

    def delivery_rule(self) -> DeliveryRule:
        """Return how patient deliveries are."""
        settings = self.settings
        return DeliveryRule(
            # A delivery may wait for the PACS at each of its steps, and an analysis renews its lease
            lease_seconds=2 * settings.lease_seconds,
            backoff_seconds=settings.delivery_backoff_seconds,
            commitment_timeout_seconds=settings.commitment_timeout_seconds,
        )

    def sweeper(self) -> SweepCollaborators:
        """Return what a sweep works with."""
        settings = self.settings
        return SweepCollaborators(
            database=self.database,
            queue=self.queue,
            model_version=self.model_version,
            shadow_version=self.shadow_version,
            rule=SweepRule(settings.quiet_seconds, 2 * settings.sweep_seconds),
            clock=utc_now,
            recover_files=lambda: self._unrecorded_files().step(),
        )

    def reanalyzer(self) -> ReanalysisCollaborators:
        """Return what a step of re-analysis works with."""
        return ReanalysisCollaborators(
            database=self.database,
            model_version=self.model_version,
            rule=reanalysis_rule(self.settings),
            clock=utc_now,
            store=store_of(self.settings),
            archive=archive_parts(self.settings, self.database),
        )

    def _once(self, name: str, make: Callable[[], Part]) -> Part:
        with self._lock:
            if self._process != os.getpid():
                self._process, self._parts = os.getpid(), {}
            if name not in self._parts:
                self._parts[name] = make()
            return cast("Part", self._parts[name])

    def _unrecorded_files(self) -> UnrecordedFiles:
        def make() -> UnrecordedFiles:
            reception = build_reception(self.settings, self.database)
            return UnrecordedFiles(self.database, self.store, reception, self.settings.maximum_instance_bytes, utc_now)

        return self._once("unrecorded_files", make)

    def _analyzers(self) -> dict[str, StudyAnalyzer]:
        return self._once("analyzers", dict)

    def _take(self, role: str, version: str | None, folder: Path | None) -> StudyAnalyzer:
        """Return the model of a role; one that was loaded for the other role before is not loaded again."""
        analyzers = self._analyzers()
        kept = analyzers.pop(role, None)
        if kept is not None and kept.version != version:
            log.info("bundle_changed", role=role, before=kept.version, after=version)
            kept = None
        other = next((each for each in analyzers.values() if each.version == version), None)
        analyzers[role] = kept or other or self._load_analyzer(folder)
        return analyzers[role]

    def _load_analyzer(self, folder: Path | None) -> StudyAnalyzer:
        # Imported here: torch takes seconds to import, and its threads do not survive a fork.
        from models.analyzer import Analyzer  # noqa: PLC0415
        from models.bundle import load_bundle  # noqa: PLC0415

        settings = self.settings
        try:
            bundle = load_bundle(folder)
            analyzer = Analyzer(bundle, device=settings.device, threads=settings.threads)
        except ModelError as error:
            raise EnvironmentUnfit(f"this worker has no usable model: {error}") from error
        except (OSError, RuntimeError, MemoryError) as error:
            # RuntimeError is what torch raises for a device that is not there or has no memory left.
            raise EnvironmentUnfit(f"this worker cannot load its model ({type(error).__name__})") from error
        log.info("model_loaded", model_version=analyzer.version)
        return analyzer

    def _fallback(self, report: Path) -> Path:
        """Make the Comprehensive SR form of a report, for a PACS that takes no other."""
        form = as_comprehensive_sr(report.read_bytes())
        return self.store.path(self.store.put_report(form.part10, form.reference.sop_instance_uid).path)


def reanalysis_rule(settings: Settings) -> ReanalysisRule:
    """Return what the past may cost, as the site chose."""
    crontab = settings.reanalysis_crontab
    return ReanalysisRule(
        night=None if crontab is None else NightRule(crontab, settings.reanalysis_time_zone, settings.reanalysis_end),
        night_requests=tuple(archive_request(settings, Request(source)) for source in settings.reanalysis_sources),
        studies_a_night=settings.reanalysis_studies_a_night,
        live_limit=settings.reanalysis_live_limit,
        waiting=settings.reanalysis_waiting,
        lease_seconds=settings.lease_seconds,
    )


def archive_request(settings: Settings, request: Request) -> Request:
    """Return a request that asks an archive for no other modalities than those that are analysed."""
    if request.source != ARCHIVE or request.modalities:
        return request
    return dataclasses.replace(request, modalities=tuple(sorted(settings.scope().modalities)))


def archive_parts(settings: Settings, database: Database) -> ArchiveParts | None:
    """Return what a re-analysis over the site's archive works with; None where the site has chosen none."""
    archive = build_archive(settings, database)
    if archive is None:
        return None
    rule = ArchiveRule(
        settings.reanalysis_queries_a_minute,
        settings.reanalysis_retrievals_a_minute,
        settings.reanalysis_retrievals_at_once,
        settings.reanalysis_disk_bytes,
    )
    return ArchiveParts(archive, build_receive(settings, database), rule)


def build_listener(settings: Settings, database: Database) -> Listener:
    """Return the listener of a site, not started, with its store and its intake."""
    return Listener(settings.listener(), store_of(settings), build_intake(settings, database))
