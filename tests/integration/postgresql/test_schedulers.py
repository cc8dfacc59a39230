from tests.unit.worker.queue.test_schedulers import *  # noqa: F403 - the tests themselves
