from tests.unit.test_jobs import *  # noqa: F403 - the tests themselves
