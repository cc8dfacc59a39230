"""A stand-in for an archive: what it has, what it answers, and what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import select

from dicom_io.archive.archive import FoundPage, FoundStudy, Receive, RetrieveReceipt, StudyNotFound, StudyQuery
from tests.databases import MORNING, a_study, an_instance
from tests.fakes_worker import Script
from worker.db.database import Database
from worker.db.tables import Instance, Study


@dataclass
class FakeArchive:
    """Studies by number, each of one day and with so many images; a retrieval writes the rows that an intake would.

    `finds` and `retrieves` are scripts that run first: an exception in them is the archive's answer.
    """

    database: Database
    studies: dict[int, str] = field(default_factory=dict)
    images: int = 1
    finds: Script = field(default_factory=lambda: Script([None]))
    retrieves: Script = field(default_factory=lambda: Script([None]))
    questions: list[StudyQuery] = field(default_factory=list)
    retrieved: list[str] = field(default_factory=list)
    name = "archive"
    source = "get"

    def find(self, query: StudyQuery, limit: int) -> FoundPage:
        self.questions.append(query)
        self.finds(query)
        found = [FoundStudy(f"2.25.{number}", day) for number, day in self.studies.items() if _within(day, query)]
        return FoundPage(tuple(found[:limit]), complete=len(found) <= limit)

    def retrieve(self, study_instance_uid: str, receive: Receive) -> RetrieveReceipt:
        self.retrieved.append(study_instance_uid.removeprefix("2.25."))
        answer = self.retrieves(study_instance_uid)
        number = int(study_instance_uid.removeprefix("2.25."))
        if number not in self.studies:
            raise StudyNotFound("the archive has no such study")
        images = self.images if answer is None else answer
        self._arrive(number, images)
        return RetrieveReceipt(images, self.images - images, None if images == self.images else "no room")

    def _arrive(self, number: int, images: int) -> None:
        with self.database.write() as session:
            study = session.scalars(select(Study).filter_by(study_instance_uid=f"2.25.{number}")).one_or_none()
            if study is None:
                values = {"state": "receiving", "completed_at": None, "last_instance_at": MORNING, "source": "get"}
                study = a_study(session, number, study_date=self.studies[number], **values)
            for image in range(1, images + 1):
                uid = f"2.25.{number}.{image}"
                known = session.scalars(select(Instance).filter_by(sop_instance_uid=uid)).one_or_none()
                if known is None:
                    an_instance(session, study, image)
                else:
                    known.file_deleted_reason = known.file_deleted_at = None


def _within(day: str, query: StudyQuery) -> bool:
    # Every study of the stand-in was made at noon.
    text: Callable[[object], str] = lambda value: f"{value:%Y%m%d}" if value else ""  # noqa: E731
    if (query.first and day < text(query.first)) or (query.last and day > text(query.last)):
        return False
    hours = [moment.hour if moment else default for moment, default in ((query.first_time, 0), (query.last_time, 24))]
    return hours[0] <= 12 <= hours[1]
