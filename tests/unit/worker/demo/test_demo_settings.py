"""What the demonstration takes over of a site, and what it must not touch."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import pytest

from worker.demo.demo import Demo


@pytest.fixture(autouse=True)
def environment_as_before():
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_the_site_lends_its_model_and_device_to_the_demonstration_and_nothing_else(monkeypatch, tmp_path):
    home = tmp_path / ".bonewatch"
    home.mkdir()
    text = 'bundle = "bundle"\ndicom_port = 11113\nstore_folder = "files"\ndatabase_url = "postgresql://u:p@h/d"\n'
    (home / "bonewatch.toml").write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BONEWATCH_THREADS", "3")
    monkeypatch.setenv("BONEWATCH_REDIS_URL", "redis://broker/0")
    with Demo((), os.environ, print, threading.Event()) as demo:
        demo.pacs = SimpleNamespace(port=11104)
        settings = demo._settings(11200)
        assert (settings.bundle, settings.threads) == (home / "bundle", 3)
        assert (settings.home, settings.store) == (demo.home, demo.home / "store")
        assert (settings.dicom_port, settings.database_url, settings.redis_url) == (11200, None, None)
        assert settings.as_environment()["BONEWATCH_CONFIG"] == os.devnull
