"""The commands as a person meets them: help, documentation, errors in words, exit statuses."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.builders import build_cr, write_part10
from tests.databases import MORNING, sqlite_database
from tests.product import ROOT
from worker.cli.root import app
from worker.db.tables import Delivery, Job, Report, Study
from worker.operate.moments import parse_moment

DOCUMENTATION = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
MODEL = "2026-01-01-fake+00000000"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path / "home"


@pytest.fixture
def filled(site: Path) -> Path:
    """Three studies: one positive and committed, one failed, one whose delivery was given up."""
    site.mkdir()
    database = sqlite_database(site)
    with database.write() as session:
        for number, (outcome, delivery) in enumerate(
            [("present", "committed"), ("failed", None), ("absent", "failed")], 1
        ):
            study = Study(
                study_instance_uid=f"1.2.{number}", patient_id=f"=PAT{number}", accession_number=f"ACC{number}",
                state="complete", first_instance_at=MORNING, last_instance_at=MORNING,
            )  # fmt: skip
            job = Job(
                study=study, digest="d", model_version=MODEL, state="failed" if outcome == "failed" else "done",
                outcome=outcome, created_at=MORNING, finished_at=MORNING,
                reason="cannot be decoded" if outcome == "failed" else None,
                probability=None if outcome == "failed" else 0.5,
            )  # fmt: skip
            session.add(job)
            if delivery:
                report = Report(job=job, state="built", sop_instance_uid=f"1.9.{number}", built_at=MORNING)
                committed = MORNING if delivery == "committed" else None
                session.add(Delivery(report=report, destination="pacs", state=delivery, committed_at=committed))
    database.close()
    return site


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        for path, each in (
            [(f"{name} {sub}", one) for sub, one in command.commands.items()]
            if hasattr(command, "commands")
            else [(name, command)]
        ):
            if not each.hidden:
                yield path, each


def section(command: str) -> str:
    parts = [part for part in DOCUMENTATION.split("\n## ") if f"bonewatch {command}" in part.splitlines()[0]]
    assert len(parts) == 1, f"docs/commands.md has {len(parts)} sections about {command}"
    return parts[0]


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_command_and_every_option_is_documented(name: str) -> None:
    command = dict(commands())[name]
    text = section(name)
    for parameter in command.params:
        options = [each for each in parameter.opts if each.startswith("--")]
        missing = [
            each for each in options if f"`{each}" not in text and f"{each}`" not in text and f"| {each}" not in text
        ]
        assert not missing, f"docs/commands.md does not describe {missing} of {name}"


def test_no_option_is_documented_that_does_not_exist() -> None:
    every = [parameter for _, command in commands() for parameter in command.params]
    real = {option for parameter in every for option in (*parameter.opts, *parameter.secondary_opts)}
    real |= {"--config", "--help", "--version", "--install-completion", "--show-completion"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", DOCUMENTATION)) <= real


def test_help_comes_without_heavy_imports() -> None:
    code = (
        "import sys\n"
        "from worker.cli.root import app\n"
        "heavy = {'torch', 'pydicom', 'pynetdicom', 'celery', 'sqlalchemy', 'numpy', 'cv2', 'highdicom', 'pydantic'}\n"
        "sys.stdout.write(', '.join(sorted(heavy & set(sys.modules))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_command_has_help_that_can_be_read() -> None:
    for name, command in commands():
        assert command.help, name
        assert run(*name.split(), "--help").exit_code == 0


@pytest.mark.parametrize("command", [("status",), ("results",), ("jobs",), ("listen",)])
def test_a_database_without_tables_is_named_with_what_to_do(command: tuple[str, ...]) -> None:
    result = run(*command)
    assert result.exit_code == 3
    assert "bonewatch db upgrade" in result.stderr
    assert "Traceback" not in result.output


def test_db_upgrade_makes_the_tables_and_says_so(site: Path) -> None:
    assert "from nothing to revision" in run("db", "upgrade").stdout
    assert "already" in run("db", "upgrade").stdout
    assert run("results").stdout == "no results match\n"


def test_an_option_names_another_home(tmp_path: Path) -> None:
    assert run("db", "upgrade", "--home", tmp_path / "other").exit_code == 0
    assert (tmp_path / "other" / "bonewatch.sqlite3").exists()


def test_a_wrong_setting_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONEWATCH_DICOM_PORT", "many")
    result = run("status")
    assert result.exit_code == 2
    assert "BONEWATCH_DICOM_PORT" in result.stderr


def test_results_are_filtered(filled: Path) -> None:
    rows = json.loads(run("results", "--format", "json", "--outcome", "present").stdout)
    assert [row["study_instance_uid"] for row in rows] == ["1.2.1"]
    assert json.loads(run("results", "--format", "json", "--accession", "ACC2").stdout)[0]["outcome"] == "failed"
    assert json.loads(run("results", "--format", "json", "--patient-id", "nobody").stdout) == []
    assert len(json.loads(run("results", "--format", "json", "--model", "2026-01").stdout)) == 3
    assert json.loads(run("results", "--format", "json", "--until", "2026-03-01").stdout) == []
    assert len(json.loads(run("results", "--format", "json", "--since", "2026-03-01").stdout)) == 3


def test_results_are_written_to_a_file_and_counted(filled: Path, tmp_path: Path) -> None:
    for form, size in (("csv", 4), ("json", 5)):
        result = run("results", "--format", form, "--out", tmp_path / form)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "3 rows written" in result.stderr
        assert len((tmp_path / form).read_text().splitlines()) == size


def test_a_parquet_file_needs_a_name_and_a_table_has_none(filled: Path, tmp_path: Path) -> None:
    assert run("results", "--format", "parquet").exit_code == 2
    assert run("results", "--out", tmp_path / "table").exit_code == 2


def test_a_purge_of_nothing_asks_nothing(filled: Path) -> None:
    found = json.loads(run("purge", "--older-than", "1d", "--dry-run", "--json").stdout)
    assert found == {"studies": 0, "instances": 0, "size_bytes": 0, "kept": 0}
    done = run("purge", "--older-than", "1d")
    assert (done.exit_code, "deleted: the files of 0 instances" in done.stdout) == (0, True)


@pytest.mark.parametrize("age", ["", "365", "0d", "-1d", "9999999d", "999999d", "d"])
def test_an_age_that_is_none_is_named(filled: Path, age: str) -> None:
    result = run("purge", f"--older-than={age}")
    assert (result.exit_code, "write days, weeks or years" in result.stderr) == (2, True)


def test_a_table_of_results_shows_outcome_report_and_reason(filled: Path) -> None:
    shown = run("results").stdout
    assert "present" in shown
    assert "committed" in shown
    assert "cannot be decoded" in shown


def test_csv_holds_every_row_and_no_formula(filled: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("results", "--format", "csv").stdout)))
    assert [row["study_instance_uid"] for row in rows] == ["1.2.3", "1.2.2", "1.2.1"]
    assert rows[0]["patient_id"] == "'=PAT3"


def test_a_limit_is_told_of(filled: Path) -> None:
    assert "the newest 1" in run("results", "--limit", "1").stdout


def test_a_moment_that_is_none_is_wrong_use(filled: Path) -> None:
    result = run("results", "--since", "soon")
    assert result.exit_code == 2
    assert "--since 'soon'" in result.stderr


def test_jobs_are_listed_by_state(filled: Path) -> None:
    rows = json.loads(run("jobs", "--state", "failed", "--json").stdout)
    assert [row["study_instance_uid"] for row in rows] == ["1.2.2"]
    assert "cannot be decoded" in run("jobs", "--study", "1.2.2").stdout


def test_status_shows_failures_though_no_broker_answers(filled: Path) -> None:
    result = run("status")
    assert result.exit_code == 0
    assert "does not answer" in result.stdout
    assert "cannot be decoded" in result.stdout
    assert "not chosen yet" in result.stdout
    found = json.loads(run("status", "--json").stdout)
    assert found["queues"] is None
    assert found["deliveries"] == {"failed": 1}, "the committed one is older than a day"


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    class Manifest:
        version = MODEL

    monkeypatch.setattr("models.manifest.read_manifest", lambda _folder: Manifest)


@pytest.mark.usefixtures("bundle")
def test_retry_of_a_failed_study_plans_a_new_job(filled: Path) -> None:
    assert "new analyses planned: 1; deliveries revived: 0" in run("retry", "1.2.2").stdout
    states = [row["state"] for row in json.loads(run("jobs", "--study", "1.2.2", "--json").stdout)]
    assert states == ["queued", "failed"]
    again = run("retry", "1.2.2")
    assert again.exit_code == 1
    assert "waiting or running" in again.stdout


@pytest.mark.usefixtures("bundle")
def test_retry_of_a_report_that_did_not_arrive_only_sends_it_again(filled: Path) -> None:
    assert "new analyses planned: 0; deliveries revived: 1" in run("retry", "1.2.3").stdout


@pytest.mark.usefixtures("bundle")
def test_retry_all_failed_does_both(filled: Path) -> None:
    assert "new analyses planned: 1; deliveries revived: 1" in run("retry", "--all-failed").stdout


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("arguments", [(), ("1.2.2", "--all-failed")])
def test_retry_wants_one_study_or_all(filled: Path, arguments: tuple[str, ...]) -> None:
    assert run("retry", *arguments).exit_code == 2


@pytest.mark.usefixtures("bundle")
def test_retry_of_a_study_that_nobody_sent_says_so(filled: Path) -> None:
    result = run("retry", "9.9.9")
    assert result.exit_code == 1
    assert "9.9.9" in result.stderr


def test_analyze_reports_bad_files_without_a_model_and_without_a_home(site: Path, tmp_path: Path) -> None:
    (tmp_path / "note.dcm").write_text("a note")
    chest = write_part10(build_cr(BodyPartExamined="CHEST"), tmp_path / "chest.dcm")
    result = run("analyze", "--json", tmp_path / "note.dcm", chest, tmp_path / "missing")
    assert result.exit_code == 1
    assert [each["outcome"] for each in json.loads(result.stdout)] == ["failed", "out_of_scope", "failed"]
    assert run("analyze", "--json", chest).exit_code == 0
    assert not site.exists()


def test_analyze_shows_reasons_and_what_it_passed_over(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "[note].dcm").write_text("a note")
    (tmp_path / "in" / "README").write_text("words")
    result = run("analyze", tmp_path / "in")
    assert "[note].dcm" in result.stdout
    assert "DICM" in result.stdout
    assert "1 file of the folders is neither" in result.stdout


def test_analyze_refuses_a_file_as_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert run("analyze", tmp_path, "--out", tmp_path / "file").exit_code == 2


def test_analyze_with_a_refused_bundle_says_what_to_do(tmp_path: Path) -> None:
    path = write_part10(build_cr(), tmp_path / "hand.dcm")
    result = run("analyze", path, "--bundle", tmp_path / "nothing")
    assert result.exit_code == 3
    assert "what to do" in result.stderr


def test_demo_without_samples_says_where_they_are_looked_for(tmp_path: Path) -> None:
    result = run("demo", "--samples", tmp_path)
    assert result.exit_code == 3
    assert "--samples" in result.stderr


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-02", datetime(2026, 3, 2).astimezone()),
        ("2026-03-02T14:30+00:00", datetime.fromisoformat("2026-03-02T14:30+00:00")),
        ("today", datetime(2026, 3, 2).astimezone()),
        ("yesterday", datetime(2026, 3, 1).astimezone()),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, moment: datetime) -> None:
    assert parse_moment(text, now=datetime(2026, 3, 2, 9, 0).astimezone()) == moment
