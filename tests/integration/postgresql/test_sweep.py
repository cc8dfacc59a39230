from tests.unit.test_sweep import *  # noqa: F403 - the tests themselves
