from tests.unit.worker.reception.test_intake import *  # noqa: F403 - the tests themselves
