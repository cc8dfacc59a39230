from tests.unit.worker.db.test_database_document import *  # noqa: F403 - the tests themselves
