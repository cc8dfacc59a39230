from tests.unit.test_scheduling import *  # noqa: F403 - the tests themselves
