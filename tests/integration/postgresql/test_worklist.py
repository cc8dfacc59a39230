from tests.unit.test_worklist import *  # noqa: F403 - the tests themselves
