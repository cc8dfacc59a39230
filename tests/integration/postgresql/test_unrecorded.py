from tests.unit.test_unrecorded import *  # noqa: F403 - the tests themselves
