from __future__ import annotations

import os

import pytest

from worker.errors import BrokerError
from worker.queue.broker import LONGEST_SOCKET_PATH, EmbeddedBroker, broker_url, socket_path
from worker.settings.settings import load_settings


def test_the_socket_lies_in_the_home(tmp_path):
    assert socket_path(tmp_path) == tmp_path / "run" / "valkey.sock"


def test_a_home_too_long_for_a_socket_has_it_in_a_short_folder_of_its_own(tmp_path):
    homes = [tmp_path / ("h" * 100) / "a", tmp_path / ("h" * 100) / "b"]

    paths = [socket_path(home) for home in homes]

    assert all(len(os.fsencode(path)) <= LONGEST_SOCKET_PATH for path in paths)
    assert paths[0] != paths[1]
    assert paths[0] == socket_path(homes[0])


def test_a_site_with_a_broker_of_its_own_uses_that(tmp_path):
    assert broker_url(load_settings(home=tmp_path, redis_url="redis://h:1/0")) == "redis://h:1/0"
    assert broker_url(load_settings(home=tmp_path)) == f"redis+socket://{tmp_path}/run/valkey.sock"


def test_a_folder_that_is_a_link_to_somewhere_else_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BrokerError, match="somebody else"):
        EmbeddedBroker(tmp_path).start()
