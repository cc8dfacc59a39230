"""What two models say of the same studies: new possible fractures first, each study once."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from tests.databases import MORNING, a_job, a_study
from worker.cli.root import app
from worker.operate import model_changes as module
from worker.operate.model_changes import changes, earlier_model

OLD, NEW, THIRD = "2026-03-01-old+01234567", "2026-03-02-new+89abcdef", "2026-03-03-third+00000000"


def said(session, number, *answers):
    """Add a study and what models said of it, in this order: (model, outcome, probability)."""
    study = a_study(session, number)
    for place, (model, outcome, probability) in enumerate(answers):
        at = MORNING + timedelta(hours=place)
        state = "failed" if outcome is None else "done"
        a_job(
            session, study, model_version=model, outcome=outcome, probability=probability, state=state,
            finished_at=at, digest=f"{place}",
        )  # fmt: skip


def found(database, *models, **how):
    return [(row.study_instance_uid[5:], row.kind) for row in changes(database, *models, **how)]


@pytest.fixture
def filled(database):
    with database.write() as session:
        said(session, 1, (OLD, "present", 0.9), (NEW, "absent", 0.1))
        said(session, 2, (OLD, "absent", 0.1), (NEW, "present", 0.7))
        said(session, 3, (OLD, "absent", 0.1), (NEW, "inconclusive", 0.4))
        said(session, 4, (OLD, "inconclusive", 0.3), (NEW, "present", 0.95))
        said(session, 5, (OLD, "failed", None), (NEW, "absent", 0.05))
        said(session, 6, (OLD, "absent", 0.1), (NEW, "absent", 0.2))
        said(session, 7, (NEW, "present", 0.9))
    return database


def test_newly_suspected_fractures_come_first_the_largest_difference_before(filled):
    assert found(filled, OLD, NEW) == [
        ("4", "newly_suspected"), ("2", "newly_suspected"), ("3", "newly_inconclusive"), ("1", "no_longer_suspected"),
        ("5", "other"),
    ]  # fmt: skip
    assert found(filled, NEW, OLD) == []


def test_pages_neither_lose_nor_double_a_row(filled, monkeypatch):
    whole = found(filled, OLD, NEW, unchanged=True)
    assert (len(whole), whole[-1]) == (6, ("6", "none"))
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    assert found(filled, OLD, NEW, unchanged=True) == whole
    assert found(filled, OLD, NEW, unchanged=True, limit=3) == whole[:3]


def test_the_last_answer_of_each_model_counts_and_a_failed_job_is_none(database):
    with database.write() as session:
        said(session, 1, (OLD, "absent", 0.1), (OLD, "present", 0.8), (NEW, "absent", 0.2), (NEW, "present", 0.9))
        said(session, 2, (OLD, "absent", 0.1), (NEW, None, None))
        said(session, 3, (OLD, "absent", 0.1), (THIRD, "present", 0.8), (NEW, "present", 0.9))
    assert found(database, OLD, NEW, unchanged=True) == [("3", "newly_suspected"), ("1", "none")]
    assert found(database, THIRD, NEW, unchanged=True) == [("3", "none")]


def test_the_model_before_the_current_one_is_the_last_other_that_answered(database):
    assert earlier_model(database, NEW) is None
    with database.write() as session:
        said(session, 1, (THIRD, "absent", 0.1), (OLD, "absent", 0.1), (NEW, "absent", 0.1))
    assert earlier_model(database, NEW) == OLD


def test_the_command_prints_writes_and_says_where_there_is_nothing(filled, tmp_path, monkeypatch):
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path))

    def run(*arguments):
        return CliRunner().invoke(app, ["changes", *arguments])

    table = run("--from", OLD, "--to", NEW)
    assert table.exit_code == 0
    assert table.stdout.index("newly suspected") < table.stdout.index("no longer suspected")
    assert "+0.650" in table.stdout
    rows = json.loads(run("--from", OLD, "--to", NEW, "--format", "json", "--all", "--limit", "6").stdout)
    assert [row["changed"] for row in rows] == [1, 1, 1, 1, 1, 0]
    assert run("--from", OLD, "--to", NEW, "--format", "csv").stdout.count("\n") == 6
    assert "no study has another outcome" in run("--from", NEW, "--to", OLD).stdout
