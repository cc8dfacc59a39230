from tests.integration.test_identity import *  # noqa: F403 - the tests themselves
