from tests.unit.worker.study.test_pipeline import *  # noqa: F403 - the tests themselves
