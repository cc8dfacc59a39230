from __future__ import annotations

import pytest

from models.types import BundleError
from tests.fakes_worker import FakeAnalyzer, FakeQueue
from worker.bootstrap import Runtime
from worker.errors import DatabaseNotUpgraded, EnvironmentUnfit
from worker.settings import load_settings


class Bench(Runtime):
    """A runtime whose bundle is a word."""

    installed: object = "v1"
    loads = 0

    def model_version(self):
        if isinstance(self.installed, Exception):
            raise self.installed
        return self.installed

    def _load_analyzer(self):
        self.loads += 1
        if self.installed is None:
            raise EnvironmentUnfit("no usable model")
        return FakeAnalyzer(version=self.installed)


@pytest.fixture
def runtime(tmp_path):
    return Bench(load_settings(home=tmp_path), FakeQueue())


def test_a_model_is_loaded_once_and_kept(runtime):
    assert runtime.loads == 0
    assert runtime.analyzer() is runtime.analyzer()
    assert runtime.loads == 1


def test_a_new_bundle_is_taken_up_without_a_restart(runtime):
    runtime.analyzer()
    runtime.installed = "v2"

    assert runtime.analyzer().version == "v2"
    assert runtime.loads == 2


def test_a_bundle_that_is_just_being_replaced_leaves_the_loaded_one_at_work(runtime):
    runtime.analyzer()
    runtime.installed = BundleError("bundle.json is not JSON")

    assert runtime.analyzer().version == "v1"


def test_a_model_that_could_not_be_loaded_is_tried_again(runtime):
    runtime.installed = None
    with pytest.raises(EnvironmentUnfit):
        runtime.analyzer()
    runtime.installed = "v1"

    assert runtime.analyzer().version == "v1"


def test_a_database_without_tables_is_refused_with_what_to_do(runtime):
    with pytest.raises(DatabaseNotUpgraded, match="bonewatch db upgrade"):
        _ = runtime.database


def test_parts_do_not_cross_a_fork(runtime):
    before = runtime.analyzer()
    runtime._process = -1  # as a child process finds it

    assert runtime.analyzer() is not before
