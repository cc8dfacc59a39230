from tests.unit.test_intake_commitment import *  # noqa: F403 - the tests themselves
