from tests.unit.test_intake import *  # noqa: F403 - the tests themselves
