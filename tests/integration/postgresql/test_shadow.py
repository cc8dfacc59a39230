from tests.unit.test_shadow import *  # noqa: F403 - the tests themselves
