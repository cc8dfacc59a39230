from tests.integration.test_patients import *  # noqa: F403 - the tests themselves
