"""The tests of everything that speaks SQL, run again on a real PostgreSQL."""

from __future__ import annotations

import pytest

from tests.databases import emptied
from tests.servers import postgres_server
from tests.unit.test_database import *  # noqa: F403 - the tests themselves
from tests.unit.test_database_document import *  # noqa: F403 - the tests themselves
from tests.unit.test_intake import *  # noqa: F403 - the tests themselves
from tests.unit.test_results import *  # noqa: F403 - the tests themselves
from worker.connection_url import parse_database_url
from worker.database import open_database, upgrade

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
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
