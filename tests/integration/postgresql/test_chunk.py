from tests.unit.test_chunk import *  # noqa: F403 - the tests themselves
