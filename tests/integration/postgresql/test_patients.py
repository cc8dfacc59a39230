from tests.integration.worker.reception.test_patients import *  # noqa: F403 - the tests themselves
