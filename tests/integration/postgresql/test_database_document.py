from tests.unit.test_database_document import *  # noqa: F403 - the tests themselves
