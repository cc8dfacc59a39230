"""The AE that a PACS pushes to: Storage, Verification and the answers of Storage Commitment (PS3.4 Annexes A, B, J)."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

import structlog
from pynetdicom import AE, evt

from dicom_io.header.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_io.network.library_settings import configure_libraries
from dicom_io.network.wire import BoundedServer, Bounds, caller_fields, closed, guard, hang_up
from dicom_io.receive import admission, reception
from dicom_io.receive.commitment_answers import CommitmentAnswers, refuse_action
from dicom_io.receive.intake import Intake, IntakeUnavailable
from dicom_io.receive.listener_settings import AllowedCaller, ListenerSettings
from dicom_io.store.stores import Store

__all__ = ["AllowedCaller", "Intake", "IntakeUnavailable", "Listener", "ListenerSettings"]

log = structlog.get_logger()

_POLL_SECONDS = 0.02
# A sender that has been silent for so long between two requests is not in the middle of anything.
_IDLE_SECONDS = 1.0


class Listener:
    """Receives instances into a store and has them recorded by an intake.

    Parameters
    ----------
    settings : ListenerSettings
        AE title, address, limits.
    store : Store
        Where the files go. `minimum_free_bytes` of the settings counts if it is more than the store's own.
    intake : Intake
        Where they are recorded; called from many threads.
    """

    def __init__(self, settings: ListenerSettings, store: Store, intake: Intake) -> None:
        self._settings = settings
        reserve = max(store.minimum_free_bytes, settings.minimum_free_bytes)
        self._store = store.reserving(reserve)
        self._intake = intake
        self._server: BoundedServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; the one that was bound where the settings say 0."""
        return self._settings.port if self._server is None else int(self._server.server_address[1])

    @property
    def active_associations(self) -> int:
        """How many associations, or connections that may become one, are open."""
        return 0 if self._server is None else len(self._server.active_associations)

    def start(self) -> None:
        """Begin to listen.

        Raises
        ------
        StoreError
            The store's folder cannot be used.
        OSError
            The address cannot be bound.
        """
        if self._server is not None:
            raise RuntimeError("the listener runs already")
        configure_libraries()
        removed = self._store.remove_abandoned()
        if removed:
            log.info("abandoned_files_removed", count=removed)
        self._server = self._application_entity().make_server(
            (self._settings.bind_host, self._settings.port),
            evt_handlers=self._handlers(),
            server_class=BoundedServer,
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="dicom-listener", daemon=True
        )
        self._thread.start()
        log.info("listener_started", ae_title=self._settings.ae_title, host=self._settings.bind_host, port=self.port)

    def stop(self) -> None:
        """Accept nobody any more, let running associations finish within the limit, then abort what is left."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        deadline = time.monotonic() + self._settings.shutdown_seconds
        while server.active_associations and time.monotonic() < deadline:
            for assoc in server.active_associations:
                if not assoc.is_established or time.monotonic() - assoc.dimse.last_activity > _IDLE_SECONDS:
                    hang_up(assoc)
            time.sleep(_POLL_SECONDS)
        for assoc in server.active_associations:
            hang_up(assoc)
        if self._thread is not None:
            self._thread.join()
        log.info("listener_stopped")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _application_entity(self) -> AE:
        settings = self._settings
        ae = AE(ae_title=settings.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_associations = settings.maximum_associations
        ae.maximum_pdu_size = settings.maximum_pdu
        ae.acse_timeout = settings.acse_timeout_seconds
        ae.dimse_timeout = settings.network_timeout_seconds
        ae.network_timeout = settings.network_timeout_seconds
        ae.supported_contexts = admission.fixed_contexts()
        return ae

    def _handlers(self) -> list[tuple[Any, ...]]:
        settings = self._settings
        bounds = Bounds(
            maximum_pdu=settings.maximum_pdu,
            maximum_instance_bytes=settings.maximum_instance_bytes,
            network_timeout_seconds=settings.network_timeout_seconds,
            message_timeout_seconds=settings.message_timeout_seconds,
        )
        requests = reception.Reception(self._store, self._intake)
        return [
            (evt.EVT_CONN_OPEN, guard, [bounds, self._store.spool]),
            (evt.EVT_CONN_CLOSE, closed),
            (evt.EVT_ABORTED, _log_abort),
            *admission.handlers(admission.Admission(settings, self._intake)),
            (evt.EVT_C_ECHO, reception.verify),
            (evt.EVT_C_STORE, requests.store_instance),
            (evt.EVT_N_EVENT_REPORT, CommitmentAnswers(self._intake).received),
            (evt.EVT_N_ACTION, refuse_action),
        ]


def _log_abort(event: Any) -> None:
    log.warning("association_aborted", **caller_fields(event.assoc))
