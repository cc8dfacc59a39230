from tests.unit.worker.delivery.test_delivery import *  # noqa: F403 - the tests themselves
