from tests.unit.worker.study.test_jobs import *  # noqa: F403 - the tests themselves
