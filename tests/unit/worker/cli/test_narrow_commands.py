"""The commands on a terminal of 80 columns, and what they take for a study."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import typer
from sqlalchemy import select
from typer.testing import CliRunner

from tests.databases import MORNING, a_delivery, a_job, a_study, an_image, an_instance, sqlite_database
from worker.cli.root import app
from worker.db.database import open_database
from worker.db.tables import Study
from worker.errors import AmbiguousStudy, UnknownStudy
from worker.settings.connection_url import parse_database_url
from worker.study.names import short_uid, study_named

ROOT = "1.2.276.0.7230010.3.1.2.8323329.12345.1517875202.9876"
UIDS = [f"{ROOT}{number:02d}" for number in range(1, 5)]
LONG_REASON = "the pixel data is cut off after 60 percent of its codestream; the image was not analysed " * 2


@pytest.fixture(autouse=True)
def terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def filled(tmp_path):
    """Four studies with UIDs, identifiers and reasons as long as they come; two have the same accession number."""
    (tmp_path / "home").mkdir()
    database = sqlite_database(tmp_path / "home")
    with database.write() as session:
        for number, (uid, outcome) in enumerate(
            zip(UIDS, ("present", "failed", "inconclusive", "absent"), strict=True), 1
        ):
            accession = f"RIS-20261130-{min(number, 3)}"
            study = a_study(
                session,
                number,
                study_instance_uid=uid,
                accession_number=accession,
                patient_id=f"MRN-20261130-{number:04d}",
            )
            image = an_instance(session, study, number, sop_instance_uid=f"2.25.{number}")
            job = a_job(
                session, study, outcome=outcome, reason=LONG_REASON, analysis_seconds=1.5, claimed_by="worker-1",
                probability=None if outcome == "failed" else 0.5, state="failed" if outcome == "failed" else "done",
            )  # fmt: skip
            an_image(session, job, image, boxes=1)
            a_delivery(session, job, state="failed" if number == 4 else "committed", reason=LONG_REASON)
        running = {"state": "running", "outcome": None, "finished_at": None, "started_at": MORNING}
        lease = {"lease_until": MORNING + timedelta(minutes=2), "claimed_by": "a-worker-of-another-machine-4711"}
        first = session.scalars(select(Study).order_by(Study.id)).first()
        a_job(session, first, revision=2, **running, **lease)
    yield database
    database.close()


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def lines_of(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.mark.parametrize("command", ["results", "jobs", "status"])
def test_no_line_is_longer_than_the_terminal_and_uids_are_shortened(filled, command):
    lines = [line for line in lines_of(command) if not line.startswith("not chosen yet")]
    assert max(map(len, lines)) <= 80
    assert short_uid(UIDS[1]) in "\n".join(lines)
    assert not any(uid in line for uid in UIDS for line in lines)


@pytest.mark.parametrize(("command", "things"), [("results", 4), ("jobs", 5)])
def test_a_study_takes_two_lines(filled, command, things):
    lines = lines_of(command)
    assert len(lines) == 1 + 2 * things
    for line in lines[1::2]:
        assert "RIS-20261130-" in line
    for line in lines[2::2]:
        assert line.startswith("  …")


def test_what_matters_is_whole_in_a_list_of_results(filled):
    text = "\n".join(lines_of("results"))
    for word in (
        "RIS-20261130-1",
        "MRN-20261130-0002",
        "inconclusive",
        "committed",
        "2026-03-02",
        "the pixel data is cut",
    ):
        assert word in text


@pytest.mark.parametrize("command", ["results", "jobs", "status"])
def test_wide_shows_whole_uids_also_here(filled, command):
    assert UIDS[1] in "\n".join(lines_of(command, "--wide"))


def test_a_pipe_and_json_have_whole_uids(filled, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    assert UIDS[1] in "\n".join(lines_of("results"))
    monkeypatch.setenv("COLUMNS", "80")
    assert UIDS[1] in "\n".join(lines_of("results", "--format", "csv"))
    assert UIDS[1] in "\n".join(lines_of("jobs", "--json"))


def test_the_reasons_of_failures_are_whole_in_the_status(filled):
    words = " ".join(" ".join(lines_of("status")).split())
    assert words.count(" ".join(LONG_REASON.split())) == 2


@pytest.mark.parametrize(
    "name", [UIDS[1], "RIS-20261130-2", " RIS-20261130-2 ", short_uid(UIDS[1]), f"...{UIDS[1][-12:]}"]
)
def test_a_study_is_known_by_its_uid_its_accession_number_and_as_a_table_shows_it(filled, name):
    assert study_named(filled, name) == UIDS[1]
    lines = lines_of("jobs", "--study", name)
    assert len(lines) == 3
    result = run("retry", name)
    assert (result.exit_code, "new analyses planned: 1" in result.output) == (0, True)


def test_an_accession_number_of_several_studies_lists_them(filled):
    with pytest.raises(AmbiguousStudy):
        study_named(filled, "RIS-20261130-3")
    for command in (("jobs", "--study"), ("retry",)):
        result = run(*command, "RIS-20261130-3")
        assert result.exit_code == 1
        assert [line.strip() for line in result.stderr.splitlines() if line.strip() in UIDS] == [UIDS[3], UIDS[2]]
        assert UIDS[0] not in result.output


@pytest.mark.parametrize("name", ["1.2.3", "RIS-2026", "…", "...", "%", "…%", ""])
def test_an_unknown_study_is_an_error_in_words_and_changes_nothing(filled, name):
    with pytest.raises(UnknownStudy):
        study_named(filled, name)
    for command in (("jobs", "--study"), ("retry",)):
        result = run(*command, name)
        assert result.exit_code == 1
        assert "no study with this Study Instance UID or accession number has been received" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("results",),
        ("jobs",),
        ("status",),
        ("changes",),
        ("retry", "1.2.3"),
        ("reanalyze", "status"),
        ("purge", "--older-than", "1y", "--dry-run"),
        ("models", "list"),
        ("models", "history"),
    ],
)
def test_a_home_that_does_not_exist_is_named_and_not_made(tmp_path, command):
    typo = tmp_path / "bonewathc"
    result = run(*command, "--home", typo)
    assert result.exit_code == 3
    assert f"there is nothing at {typo}" in result.stderr.replace("\n", "")
    assert "--home" in result.stderr
    assert not Path(typo).exists()


def commands(group=None, path=()):
    group = group or typer.main.get_command(app)
    for name, each in group.commands.items():
        yield (*path, name)
        if hasattr(each, "commands"):
            yield from commands(each, (*path, name))


@pytest.mark.parametrize("path", [(), *commands()], ids=" ".join)
def test_help_names_choices_and_units_and_no_types_of_python(path):
    text = run(*path, "--help").stdout
    assert "--help" in text
    for word in ("<bool>", "<str>", "<int", "<float", "<path>", "<list[", "<%Y"):
        assert word not in text


def test_help_still_says_what_there_is_to_choose_from():
    assert "<queued|running|done|failed>" in run("jobs", "--help").stdout
    assert "<listen|work|schedule|ui>" in run("health", "--help").stdout


def test_a_database_elsewhere_needs_no_home(tmp_path, filled, monkeypatch):
    monkeypatch.setenv("BONEWATCH_DATABASE_URL", f"sqlite:///{tmp_path}/home/bonewatch.sqlite3")
    assert len(lines_of("results", "--home", tmp_path / "elsewhere")) == 9
    open_database(parse_database_url(f"sqlite:///{tmp_path}/home/bonewatch.sqlite3")).close()
