"""Stand-ins for the ports of dicom_io: they keep the promises of the real ones, in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dicom_io.receive.intake import CommitmentRefused, IntakeUnavailable
from dicom_io.types import (
    CommitmentReport,
    InstanceHeader,
    KnownInstance,
    Peer,
    Refusal,
    Registration,
    Replacement,
    StoredFile,
)


@dataclass
class FakeIntake:
    """An intake in memory; while `unavailable`, it refuses every record as a locked database would.

    `answerer` is the AE title that was asked for storage commitment, None where anybody may answer.
    """

    unavailable: bool = False
    answerer: str | None = None
    files: dict[str, StoredFile] = field(default_factory=dict)
    headers: list[InstanceHeader] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    registrations: list[Registration] = field(default_factory=list)
    rejections: list[Refusal] = field(default_factory=list)
    commitments: list[CommitmentReport] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def register(self, header: InstanceHeader, stored: StoredFile, peer: Peer) -> Registration:
        with self._lock:
            self._require_available()
            registration = self._compare(header.sop_instance_uid, stored)
            self.registrations.append(registration)
            if registration is Registration.NEW:
                self.files[header.sop_instance_uid] = stored
                self.headers.append(header)
                self.peers.append(peer)
            return registration

    def known(self, sop_instance_uid: str) -> KnownInstance | None:
        with self._lock:
            self._require_available()
            stored = self.files.get(sop_instance_uid)
            headers = [each for each in self.headers if each.sop_instance_uid == sop_instance_uid]
            return stored and KnownInstance(stored, False, headers[-1].study_instance_uid)

    def replace(self, header: InstanceHeader, stored: StoredFile, peer: Peer, replacement: Replacement) -> bool:
        with self._lock:
            self._require_available()
            if self.files.get(header.sop_instance_uid) != replacement.known.stored:
                return False
            self.files[header.sop_instance_uid] = stored
            self.headers.append(header)
            self.peers.append(peer)
            self.registrations.append(Registration.REPLACED)
            return True

    def remove_replaced(self, sop_instance_uid: str, stored: StoredFile, discard: Callable[[StoredFile], None]) -> None:
        with self._lock:
            if self.files[sop_instance_uid].path != stored.path:
                discard(stored)

    def reject(self, rejection: Refusal) -> None:
        with self._lock:
            self._require_available()
            self.rejections.append(rejection)

    def commitment(self, report: CommitmentReport, peer: Peer) -> None:
        with self._lock:
            self._require_available()
            if self.answerer not in (None, peer.ae_title):
                raise CommitmentRefused("the request went to somebody else")
            self.commitments.append(report)

    def _compare(self, sop_instance_uid: str, stored: StoredFile) -> Registration:
        known = self.files.get(sop_instance_uid)
        if known is None:
            return Registration.NEW
        return Registration.DUPLICATE if known.digest == stored.digest else Registration.CONFLICT

    def _require_available(self) -> None:
        if self.unavailable:
            raise IntakeUnavailable("the database is locked")
