"""A PostgreSQL that is missing, slow, restarted or gone: always "unavailable for now", never a wrong answer."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tests.peers import free_port
from tests.servers import postgres_server
from worker.db.database import Database, open_database, upgrade
from worker.errors import DatabaseUnavailable
from worker.settings.connection_url import parse_database_url

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def url():
    with postgres_server() as address:
        made = parse_database_url(address)
        upgrade(made)
        yield made


def answer(database, sql="SELECT 1"):
    with database.read() as session:
        return session.scalar(text(sql))


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(url):
    database = Database(url, timeout_seconds=0.3)
    assert answer(database) == 1
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        answer(database, "SELECT 42 FROM pg_sleep(0.6)")
    assert [answer(database) for _ in range(3)] == [1, 1, 1]
    database.close()


def test_a_broken_connection_is_unavailable_and_the_next_one_works(url):
    database = Database(url)
    with pytest.raises(DatabaseUnavailable):
        answer(database, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert answer(database) == 1
    database.close()


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_unseen(url):
    database, other = Database(url), Database(url)
    pid = answer(database, "SELECT pg_backend_pid()")
    answer(other, f"SELECT pg_terminate_backend({pid}, 5000)")
    assert answer(database) == 1
    database.close()
    other.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"database": "nope"}, 'database "nope"'), ({"username": "nobody"}, 'role "nobody"'), ({"port": 0}, "connection")],
    ids=["database", "user", "port"],
)
def test_what_cannot_be_reached_is_named(url, change, words):
    wrong = url.set(**{name: value or free_port() for name, value in change.items()})
    for attempt in (open_database, upgrade):
        with pytest.raises(DatabaseUnavailable, match=words):
            attempt(wrong)
