"""What a run over an archive would take: counted at the pace of a run, in a bounded number of questions."""

from __future__ import annotations

from datetime import date

import pytest

from dicom_io.errors import PeerUnreachable
from tests.databases import Clock, a_job, a_study, an_instance
from tests.fakes_archive import FakeArchive
from tests.fakes_worker import Script
from worker.db.tables import ReanalysisItem
from worker.reanalysis import archive_estimate
from worker.reanalysis.archive_estimate import estimate_archive
from worker.reanalysis.parts import ArchiveParts, ArchiveRule
from worker.reanalysis.runs import ARCHIVE, Request
from worker.study.studies import current_digest

MODEL, DAYS = "2026-09-01-second+89abcdef", {1: "20260227", 2: "20260228", 3: "20260228"}
LAST_DAYS = Request(ARCHIVE, since=date(2026, 2, 27), until=date(2026, 2, 28))


def count(database, archive, request=LAST_DAYS, page=10):
    clock = Clock()
    parts = ArchiveParts(archive, lambda _: 0, ArchiveRule(60, page=page), clock.advance)
    words = []
    found = estimate_archive(
        database, parts, request, model_version=MODEL, processes=2, clock=clock, tell=words.append
    )  # fmt: skip
    return found, clock


def test_unanswered_studies_of_the_archive_are_counted_and_nothing_is_recorded(database):
    with database.write() as session:
        study = a_study(session, 2)
        an_instance(session, study)
        a_job(session, study, digest=current_digest(session, study.id), model_version=MODEL, analysis_seconds=2.0)

    found, _ = count(database, FakeArchive(database, DAYS))

    assert (found.studies, found.images, found.counted_to) == (2, 2, None)
    assert found.hours == pytest.approx(2 * 2.0 / 2 / 3600)
    with database.read() as session:
        assert session.query(ReanalysisItem).count() == 0


def test_a_day_of_more_than_a_page_is_counted_in_parts_at_the_pace_that_was_set(database):
    archive = FakeArchive(database, DAYS)
    begun = Clock().now

    found, clock = count(database, archive, page=1 + len(DAYS) - 2)

    assert found.studies == 3
    assert (clock.now - begun).total_seconds() >= len(archive.questions) - 1


def test_a_count_that_takes_too_many_questions_says_how_far_it_came(database, monkeypatch):
    monkeypatch.setattr(archive_estimate, "MOST_QUESTIONS", 1)
    found, _ = count(database, FakeArchive(database, DAYS))
    assert (found.studies, found.counted_to) == (2, "2026-02-28")


def test_a_maximum_bounds_the_count(database):
    found, _ = count(database, FakeArchive(database, DAYS), Request(ARCHIVE, maximum_studies=1))
    assert (found.studies, found.counted_to) == (1, None)


def test_an_archive_that_does_not_answer_is_an_error_in_words(database):
    archive = FakeArchive(database, DAYS, finds=Script([PeerUnreachable("archive: cannot be reached")]))
    with pytest.raises(PeerUnreachable, match="cannot be reached"):
        count(database, archive)
