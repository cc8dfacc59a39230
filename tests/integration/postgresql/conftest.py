"""A PostgreSQL for the tests of this folder, empty before each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import emptied
from tests.servers import postgres_server
from worker.db.database import open_database, upgrade
from worker.settings.connection_url import parse_database_url


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.peer)


@pytest.fixture(scope="package")
def postgresql():
    with postgres_server() as address:
        url = parse_database_url(address)
        upgrade(url)
        opened = open_database(url)
        yield opened
        opened.close()


@pytest.fixture
def database(postgresql):
    return emptied(postgresql)


@pytest.fixture(autouse=True)
def on_postgresql(request, monkeypatch, postgresql):
    # The globals of a test are those of the unit module that it comes from.
    words = request.function.__globals__
    if "sqlite_database" in words:
        monkeypatch.setitem(words, "sqlite_database", lambda _folder: emptied(postgresql))
    elif "database" not in request.fixturenames:
        assert "open_database" not in words, "this test makes its database in another way"
