from tests.unit.test_reanalysis import *  # noqa: F403 - the tests themselves
