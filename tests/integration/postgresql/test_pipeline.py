from tests.unit.test_pipeline import *  # noqa: F403 - the tests themselves
