from tests.unit.worker.storage.test_unrecorded import *  # noqa: F403 - the tests themselves
