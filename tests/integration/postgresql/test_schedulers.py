from tests.unit.test_schedulers import *  # noqa: F403 - the tests themselves
