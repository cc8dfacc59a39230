from tests.unit.worker.reanalysis.test_reanalysis import *  # noqa: F403 - the tests themselves
