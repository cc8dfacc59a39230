from tests.unit.test_results import *  # noqa: F403 - the tests themselves
