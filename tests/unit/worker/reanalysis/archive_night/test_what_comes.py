"""What a run over an archive asks for, what it brings, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from tests.archive_nights import DAY, NEW, NEWER, OLD, ask, count, files, items, night, the_run
from tests.databases import MORNING, a_job, a_study, an_instance
from worker.db.tables import LIVE_SOURCES, Instance, Job, Study
from worker.reanalysis import runs
from worker.reanalysis.reanalysis import step
from worker.reanalysis.runs import ARCHIVE, Request
from worker.study.studies import current_digest


def test_a_night_finds_retrieves_analyses_and_deletes_what_it_brought(database, parts, archive):
    archive.studies = {1: "20260225", 2: DAY}
    ask(parts)

    night(parts)

    assert items(database) == [("2", "done", None), ("1", "done", None)], "newest first"
    assert the_run(database).state == "finished"
    assert count(database, Job.model_version == NEW, Job.lane == "archive") == 2
    assert files(database) == 0
    with database.read() as session:
        assert set(session.scalars(select(Instance.file_deleted_reason))) == {"retrieved_copy"}


def test_a_second_night_retrieves_nothing_and_one_with_another_model_everything(database, parts, archive):
    archive.studies = {1: "20260225", 2: DAY}
    ask(parts)
    night(parts)
    ask(parts)
    night(parts)
    assert archive.retrieved == ["2", "1"]

    newer = replace(parts, model_version=lambda: NEWER)
    runs.start(database, Request(ARCHIVE), model_version=NEWER, asked_by="a test", now=parts.clock())
    night(newer)

    assert archive.retrieved == ["2", "1", "2", "1"]
    assert (count(database, Job.model_version == NEW), count(database, Job.model_version == NEWER)) == (2, 2)
    assert files(database) == 0


def test_a_study_that_is_here_is_analysed_without_asking_for_it_and_one_that_arrives_is_left_alone(
    database, parts, archive
):
    archive.studies = {1: DAY, 2: DAY, 3: DAY}
    with database.write() as session:
        for number, state in ((1, "complete"), (2, "receiving")):
            study = a_study(session, number, state=state)
            an_instance(session, study)
            if number == 1:
                a_job(session, study, digest=current_digest(session, study.id), model_version=OLD)
    ask(parts)

    step(parts)

    assert archive.retrieved == ["3"]
    assert count(database, Job.model_version == NEW) == 1
    night(parts)
    assert files(database) == 2, "what was pushed stays"


def test_a_study_that_was_purged_is_retrieved_and_its_copy_goes_again(database, parts, archive):
    archive.studies = {1: DAY}
    with database.write() as session:
        study = a_study(session, 1)
        an_instance(session, study, file_deleted_reason="purged", file_deleted_at=MORNING)
        a_job(session, study, digest=current_digest(session, study.id), model_version=OLD)
    ask(parts)

    night(parts)

    assert items(database) == [("1", "done", None)]
    assert count(database, Job.model_version == NEW) == 1
    assert files(database) == 0


@pytest.mark.parametrize("source", LIVE_SOURCES)
def test_a_study_that_is_brought_here_while_it_is_retrieved_keeps_its_files(database, parts, archive, source):
    archive.studies = {1: DAY}
    ask(parts)
    step(parts)
    with database.write() as session:
        session.execute(update(Study).values(source=source))

    night(parts)

    assert items(database) == [("1", "done", None)]
    assert files(database) == 1
