from tests.unit.worker.operate.test_failures import *  # noqa: F403 - the tests themselves
