from tests.unit.worker.queue.test_sweep import *  # noqa: F403 - the tests themselves
