from tests.integration.worker.reception.test_identity import *  # noqa: F403 - the tests themselves
