"""Several processes at one database: writers wait for each other, and two may upgrade at the same moment."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from sqlalchemy import func, select

from tests.product import ROOT
from tests.servers import postgres_server
from worker.db.database import Database, upgrade
from worker.db.tables import Study
from worker.settings.connection_url import parse_database_url

WRITER = """
    import sys
    from worker.settings.connection_url import parse_database_url
    from worker.db.database import open_database
    from worker.db.tables import Study, utc_now
    database = open_database(parse_database_url(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(40):
        with database.write() as session:
            # First it reads: a transaction that did not begin as a writer's could not become one after that.
            count, now = session.query(Study).count(), utc_now()
            uid = f"2.25.{sys.argv[2]}{number}"
            session.add(Study(study_instance_uid=uid, first_instance_at=now, last_instance_at=now, revision=count))
"""
UPGRADER = """
    import sys
    from worker.settings.connection_url import parse_database_url
    from worker.db.database import Database, upgrade
    print("ready", flush=True)
    sys.stdin.readline()
    print(upgrade(parse_database_url(sys.argv[1])))
"""


def started_together(program, *argument_lists):
    """Run a program once for each list of arguments, all at the same moment, and return what they printed."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    running = [subprocess.Popen([*command, *arguments], **pipes) for arguments in argument_lists]
    try:
        for process in running:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
        for process in running:
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=120) for process in running]
        assert [process.returncode for process in running] == [0] * len(running), answers
        return [out.strip() for out, _ in answers]
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/home/bonewatch.sqlite3"
        return
    with postgres_server() as address:
        yield address


def test_writers_in_two_processes_wait_for_each_other(url):
    upgrade(parse_database_url(url))
    started_together(WRITER, (url, "1"), (url, "2"))
    database = Database(parse_database_url(url))
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 80
    database.close()


def test_two_processes_may_upgrade_at_the_same_moment(url):
    answers = started_together(UPGRADER, (url,), (url,))
    newest = max(path.name[:4] for path in (ROOT / "worker/db/migrations/versions").glob("0*.py"))
    assert sorted(answers) == [f"('{newest}', '{newest}')", f"(None, '{newest}')"]
