from tests.unit.test_failures import *  # noqa: F403 - the tests themselves
