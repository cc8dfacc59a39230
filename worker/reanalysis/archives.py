"""The archive of a site, as its settings name it, and the door through which comes what it hands over."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dicom_io.archive.archive import Archive, Receive
from dicom_io.archive.dicomweb import DicomwebArchive
from dicom_io.archive.dicomweb_session import DicomwebServer
from dicom_io.archive.find import MAXIMUM_PDU
from dicom_io.archive.query_retrieve import Announce, DimseArchive, RetrieveRule
from dicom_io.network.wire import Bounds
from dicom_io.types import Destination
from worker.db.tables import utc_now
from worker.reception.moves import MoveLedger
from worker.reception.receptions import build_reception
from worker.storage.stores import store_of

if TYPE_CHECKING:
    from pydantic import SecretStr

    from worker.db.database import Database
    from worker.settings.archive import ArchiveSetting
    from worker.settings.settings import Settings


def build_archive(settings: Settings, database: Database) -> Archive | None:
    """Return the archive that the settings name, None where they name none. Nobody is called yet."""
    if settings.archive is None:
        return None
    ledger = MoveLedger(database, settings.archive.ae_title or "", settings.archive_total_seconds, utc_now)
    return archive_of(settings, settings.archive, ledger.announce)


def archive_of(settings: Settings, archive: ArchiveSetting, announce: Announce) -> DimseArchive | DicomwebArchive:
    """Return an archive; `announce` is entered for the length of each C-MOVE."""
    return _dimse(settings, archive, announce) if archive.url is None else _dicomweb(settings, archive, archive.url)


def build_receive(settings: Settings, database: Database) -> Receive:
    """Return the way in for what an archive hands over: that of the listener."""
    return build_reception(settings, database).receive


def _dicomweb(settings: Settings, archive: ArchiveSetting, url: str) -> DicomwebArchive:
    server = DicomwebServer(
        name=archive.name,
        url=url,
        timeout_seconds=settings.archive_timeout_seconds,
        total_seconds=settings.archive_total_seconds,
        maximum_instance_bytes=settings.maximum_instance_bytes,
        token=_secret(settings.archive_token),
        user=settings.archive_user,
        password=_secret(settings.archive_password),
    )
    return DicomwebArchive(server, store_of(settings).spool)


def _dimse(settings: Settings, archive: ArchiveSetting, announce: Announce) -> DimseArchive:
    pacs = Destination(
        name=archive.name,
        # The settings refuse an archive that has neither an address nor all of these.
        ae_title=cast("str", archive.ae_title),
        host=cast("str", archive.host),
        port=cast("int", archive.port),
        calling_ae_title=settings.ae_title,
        timeout_seconds=settings.archive_timeout_seconds,
    )
    bounds = Bounds(
        maximum_pdu=MAXIMUM_PDU,
        maximum_instance_bytes=settings.maximum_instance_bytes,
        network_timeout_seconds=settings.archive_timeout_seconds,
        message_timeout_seconds=settings.archive_total_seconds,
    )
    total = settings.archive_total_seconds
    rule = RetrieveRule(archive.retrieve or "get", total, bounds, store_of(settings).spool, announce)
    return DimseArchive(pacs, rule)


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()
