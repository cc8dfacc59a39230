"""What `bonewatch doctor` looks at in the archive: does it let itself be asked, and does it hand over."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from dicom_io.archive.archive import StudyQuery
from dicom_io.archive.query_retrieve import DimseArchive
from dicom_io.errors import PeerBusy, PeerError, PeerUnreachable
from worker.operate.verdict import Check, Verdict
from worker.reanalysis.archives import archive_of

if TYPE_CHECKING:
    from dicom_io.archive.dicomweb import DicomwebArchive
    from worker.settings.archive import ArchiveSetting
    from worker.settings.settings import Settings

WAYS = {"get": "C-GET", "move": "C-MOVE"}


def check_archive(settings: Settings, setting: ArchiveSetting) -> Check:
    """Ask the archive which ways it offers, and for one study."""
    archive = archive_of(settings, setting, lambda _study, _message_id: nullcontext())
    if isinstance(archive, DimseArchive):
        return _check_dimse(settings, archive)
    return _check_dicomweb(settings, archive, setting)


def _check_dimse(settings: Settings, pacs: DimseArchive) -> Check:
    name, ours = f"archive {pacs.name}", settings.ae_title
    try:
        accepted = pacs.accepted()
        if "C-FIND" in accepted:
            pacs.find(StudyQuery(), 1)
    except PeerError as error:
        return Check(name, Verdict.BAD, str(error), _advice(error, ours))
    wanted, words = WAYS[pacs.source], ", ".join(accepted) or "nothing of it"
    missing = [each for each in ("C-FIND", wanted) if each not in accepted]
    if missing:
        others = [word for word, service in WAYS.items() if service in accepted]
        advice = f"let the PACS accept {' and '.join(missing)} from {ours}"
        if wanted in missing and others:
            advice += f', or set "retrieve": "{others[0]}" in BONEWATCH_ARCHIVE'
        return Check(name, Verdict.BAD, f"of C-FIND, C-GET and C-MOVE it accepts {words}", advice)
    if pacs.source == "move":
        try:
            pacs.require_known()
        except PeerError as error:
            advice = f"enter {ours}, this machine and port {settings.dicom_port} in the PACS as a C-MOVE destination"
            return Check(name, Verdict.BAD, str(error), advice)
    return Check(name, Verdict.GOOD, f"answers C-FIND and accepts {words}; studies come by {wanted}")


def _check_dicomweb(settings: Settings, server: DicomwebArchive, setting: ArchiveSetting) -> Check:
    name = f"archive {server.name}"
    try:
        server.find(StudyQuery(), 1)
    except PeerError as error:
        advice = "see that the address ends where /studies begins, and that BONEWATCH_ARCHIVE_TOKEN or _USER are right"
        return Check(name, Verdict.BAD, str(error), advice)
    secret = settings.archive_token or settings.archive_password
    if secret is not None and str(setting.url).startswith("http://"):
        return Check(name, Verdict.NOTE, "answers QIDO-RS; the secret travels unencrypted", "use https://")
    return Check(name, Verdict.GOOD, "answers QIDO-RS; studies come by WADO-RS")


def _advice(error: PeerError, ours: str) -> str:
    if isinstance(error, PeerBusy):
        return "try again later"
    if isinstance(error, PeerUnreachable):
        return f"see that it runs, that host, port and AE title are right (BONEWATCH_ARCHIVE), and that it knows {ours}"
    return f"let the PACS know {ours} and answer its queries; see that the AE title is right (BONEWATCH_ARCHIVE)"
