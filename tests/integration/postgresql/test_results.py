from tests.unit.worker.operate.test_results import *  # noqa: F403 - the tests themselves
