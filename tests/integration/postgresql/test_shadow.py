from tests.unit.worker.queue.test_shadow import *  # noqa: F403 - the tests themselves
