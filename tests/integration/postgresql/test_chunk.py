from tests.unit.worker.queue.test_chunk import *  # noqa: F403 - the tests themselves
