from tests.unit.worker.db.test_database import *  # noqa: F403 - the tests themselves
