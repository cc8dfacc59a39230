from tests.unit.test_database import *  # noqa: F403 - the tests themselves
