from __future__ import annotations

import pytest

from models.types import BundleError
from tests.bundles import tiny_manifest, write_manifest, write_tiny_bundle
from tests.fakes_worker import FakeAnalyzer, FakeQueue
from worker.bundles.promotion import run_in_shadow
from worker.db.tables import utc_now
from worker.errors import DatabaseNotUpgraded, EnvironmentUnfit
from worker.queue.bootstrap import Runtime
from worker.settings.current_bundle import shadow_link_of
from worker.settings.settings import load_settings


class Bench(Runtime):
    """A runtime whose bundle is a word."""

    installed: object = "v1"
    shadow: str | None = None
    loads = 0

    def model_version(self):
        if isinstance(self.installed, Exception):
            raise self.installed
        return self.installed

    def shadow_version(self):
        return None if self.shadow == self.installed else self.shadow

    def _load_analyzer(self, folder):
        self.loads += 1
        if self.installed is None:
            raise EnvironmentUnfit("no usable model")
        return FakeAnalyzer(version=folder.name if folder else self.installed)


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


def shadowed(runtime, version):
    runtime.shadow = version
    link = shadow_link_of(runtime.settings.home)
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(version)


def test_a_model_in_shadow_is_loaded_beside_the_current_one_and_given_up_with_its_link(runtime):
    assert runtime.shadow_analyzer() is None
    shadowed(runtime, "v2")

    assert (runtime.analyzer().version, runtime.shadow_analyzer().version) == ("v1", "v2")
    assert runtime.shadow_analyzer() is runtime.shadow_analyzer()
    assert runtime.loads == 2

    shadowed(runtime, "v3")
    assert runtime.shadow_analyzer().version == "v3"
    runtime.shadow = None
    assert runtime.shadow_analyzer() is None
    assert list(runtime._analyzers()) == ["current"]


def test_a_model_that_comes_out_of_shadow_is_not_loaded_again(runtime):
    runtime.analyzer()
    shadowed(runtime, "v2")
    before = runtime.shadow_analyzer()
    runtime.installed = "v2"

    assert runtime.analyzer() is before
    assert runtime.shadow_analyzer() is None
    assert runtime.loads == 2


def test_the_version_in_shadow_is_read_from_the_home_and_the_current_one_is_no_shadow(tmp_path):
    home = tmp_path / "home"
    runtime = Runtime(load_settings(home=home, bundle=write_tiny_bundle(tmp_path / "a")), FakeQueue())
    assert runtime.shadow_version() is None
    manifest = tiny_manifest(write_tiny_bundle(tmp_path / "b")) | {"name": "second"}
    write_manifest(tmp_path / "b", manifest)
    done = run_in_shadow(tmp_path / "b", home, utc_now())
    assert runtime.shadow_version() == done.after != runtime.model_version()

    run_in_shadow(tmp_path / "a", home, utc_now())
    assert runtime.shadow_version() is None

    (home / "bundles" / "shadow" / "bundle.json").write_text("{")
    with pytest.raises(EnvironmentUnfit, match="in shadow"):
        runtime.shadow_analyzer()
