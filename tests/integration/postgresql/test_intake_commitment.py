from tests.unit.worker.reception.test_intake_commitment import *  # noqa: F403 - the tests themselves
