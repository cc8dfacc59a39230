"""What is asked of an archive: which studies are there, and bring one here.

Archives are reached by DIMSE (`query_retrieve`) or DICOMweb (`dicomweb`); who plans a re-analysis sees this port. What
is brought goes through `dicom_io.receive.reception`, like what is pushed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from typing import Protocol

from dicom_io.errors import PeerError
from dicom_io.receive.reception import Arrival

Receive = Callable[[Arrival], int]
"""Takes what arrived, keeps and records it, and returns the status of C-STORE (PS3.4 B.2.3); never raises.

`dicom_io.receive.reception.Reception.receive` is the one of a running site.
"""


class StudyNotFound(PeerError):
    """The archive has no such study, or nothing of it that it can hand over: it has gone since it was found."""

    code = "study_not_found"


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """Which studies. Days and times include both ends; None and empty tuples leave a key open.

    `modalities` are Defined Terms of Modality (PS3.3 C.7.3.1.1.1), `body_parts` of Body Part Examined (PS3.16 Annex L).
    Both are looked for in one series; a series that does not say its body part may be of any.
    """

    first: date | None = None
    last: date | None = None
    first_time: time | None = None
    last_time: time | None = None
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study that an archive has, in DICOM's forms (YYYYMMDD, HHMMSS); what it does not say is None."""

    study_instance_uid: str
    study_date: str | None = None
    study_time: str | None = None
    number_of_instances: int | None = None


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Studies, each once; `complete` is False where there are more than were asked for.

    `questions` counts what was asked of the archive: a body part takes a question for each study.
    """

    studies: tuple[FoundStudy, ...]
    complete: bool
    questions: int = 1


@dataclass(frozen=True, slots=True)
class RetrieveReceipt:
    """What came of a retrieval: instances that are here now and that failed, and in words why they did."""

    completed: int
    failed: int = 0
    reason: str | None = None


class Archive(Protocol):
    """An archive. Every method raises PeerError or a subclass where the archive does not do what is asked."""

    @property
    def name(self) -> str:
        """What the site calls it."""

    @property
    def source(self) -> str:
        """How its instances come: 'get', 'move' or 'dicomweb'."""

    def find(self, query: StudyQuery, limit: int) -> FoundPage:
        """Return the studies that match, `limit` at most."""

    def retrieve(self, study_instance_uid: str, receive: Receive) -> RetrieveReceipt:
        """Bring a study here; what arrived before an error stays, and the next try does not double it.

        By C-MOVE the instances arrive at our listener and not at `receive`.

        Raises
        ------
        StudyNotFound
            It has gone.
        """
