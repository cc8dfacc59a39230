from tests.unit.worker.operate.test_worklist import *  # noqa: F403 - the tests themselves
