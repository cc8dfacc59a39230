from tests.unit.test_delivery import *  # noqa: F403 - the tests themselves
