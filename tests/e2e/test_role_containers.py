"""The roles as docker-compose.yml starts them, each with a home of its own: no container engine, but its environment.

The listener has another address than everything else. Files are in object storage, the rest in PostgreSQL and Redis. A
study is pushed over DICOM and its report committed; one of two schedulers dies, and the other does the next study.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builders import build_dx, ramp, write_part10
from tests.bundles import write_tiny_bundle
from tests.object_storage import object_server
from tests.peers import Service, accepts_connections, free_port, wait_until
from tests.product import COMMAND, ROOT, Bonewatch, clean_environment
from tests.servers import Orthanc, orthanc, postgres_server, redis_server

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(600)]

LISTENER_HOST = "127.0.0.2"
STEP_SECONDS = 150
"""Of each step, on a busy machine."""
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

log = logging.getLogger(__name__)


@dataclass
class Containers:
    """The roles that run, by name, and what an administrator's SQL client sees."""

    folder: Path
    site: dict[str, object]
    replaced: dict[str, str]
    administrator: Bonewatch
    services: dict[str, Service] = field(default_factory=dict)

    def environment(self, name: str, service: str) -> dict[str, str]:
        """Return what compose gives a service, with this machine's addresses; deploy/env is the site's choice."""
        given = dict(COMPOSE[service]["environment"]) | {"BONEWATCH_HOME": str(self.folder / name)}
        for of_compose, here in self.replaced.items():
            given = {key: value.replace(of_compose, here) for key, value in given.items()}
        return clean_environment(self.site) | given

    def begin(self, name: str, service: str, **more: str) -> Service:
        """Start a service's command and return at once."""
        command = [COMMAND, *COMPOSE[service]["command"]]
        made = Service(name, command, self.folder / f"{name}.log", self.environment(name, service) | more)
        self.services[name] = made.start(lambda: True)
        return made

    def wait_for(self, what: str, answer: Any) -> Any:
        """Wait for a step, and for no longer than a step may take, while all that was started lives."""
        log.warning("waits: %s", what)

        def look() -> Any:
            for service in self.services.values():
                service.check()
            return answer()

        return wait_until(look, STEP_SECONDS, what, every=0.2, explain=self.situation)

    def situation(self) -> str:
        tails = [f"{name}:\n{service.tail(2500)}" for name, service in self.services.items()]
        return "\n".join([self.administrator.situation(), *tails])

    def kill(self) -> None:
        while self.services:
            self.services.popitem()[1].kill()


@pytest.fixture
def site(tmp_path):
    """PostgreSQL, Redis, an object storage and an Orthanc, and no role started yet."""
    port = free_port()
    with (
        redis_server(tmp_path / "redis") as redis_url,
        postgres_server() as database_url,
        object_server(tmp_path / "objects") as objects,
        orthanc(tmp_path / "pacs", port, bonewatch_host=LISTENER_HOST) as pacs,
    ):
        (tmp_path / "database_url").write_text(database_url)
        administrator = Bonewatch(tmp_path / "administrator", database_url=database_url)
        short = {name: value for name, value in administrator.settings.items() if name.endswith("_seconds")}
        chosen = {
            **short, **objects.settings(), "bundle": str(write_tiny_bundle(tmp_path / "bundle")),
            "destinations": [pacs.destination()], "dicom_port": port, "minimum_free_bytes": 0,
        }  # fmt: skip
        replaced = {
            "redis://broker:6379/0": redis_url,
            "/run/secrets/database_url": str(tmp_path / "database_url"),
        }
        containers = Containers(tmp_path, chosen, replaced, administrator)
        try:
            yield containers, pacs, objects, port
        finally:
            containers.kill()


def test_a_study_goes_its_way_between_machines_also_when_one_of_two_schedulers_is_gone(site):
    containers, pacs, objects, port = site
    upgrade = containers.begin("upgrade", "upgrade")
    assert upgrade.wait(STEP_SECONDS) == 0, upgrade.tail()
    del containers.services["upgrade"]
    containers.begin("listener", "listener", BONEWATCH_DICOM_HOST=LISTENER_HOST)
    containers.begin("worker", "worker")
    schedulers = [containers.begin(name, "scheduler") for name in ("scheduler-1", "scheduler-2")]
    containers.wait_for("the listener listens", lambda: accepts_connections(port, LISTENER_HOST))
    assert not accepts_connections(port), "the listener has one address, and not everybody's"

    push(containers, pacs, 1)
    containers.wait_for("the first report is committed", lambda: committed(containers) == 1)
    assert len(pacs.instances("SR")) == 1
    kept = objects.names()
    assert any(name.startswith("instances/") for name in kept), kept
    assert list(containers.folder.glob("*/store/instances/**/*.dcm")) == []

    containers.wait_for("both schedulers are seen", lambda: len(seen(containers)) == len(schedulers))
    gone = schedulers[0]
    del containers.services[gone.name]
    gone.kill()
    push(containers, pacs, 2)
    containers.wait_for("the second report is committed", lambda: committed(containers) == 2)
    assert len(pacs.instances("SR")) == 2


def push(containers: Containers, pacs: Orthanc, number: int) -> None:
    """Have the PACS push a new study; it gives up before the step's time is over."""
    words = {"study": f"apart-{number}", "instance": "image", "PatientID": f"TEST-{number}"}
    path = write_part10(build_dx(**words, pixels=ramp(120, 160)), containers.folder / f"{number}.dcm")
    log.warning("waits: study %d is pushed", number)
    order = {"Resources": [pacs.upload(path)], "Synchronous": True, "Timeout": 60}
    answer = pacs.rest("POST", "/modalities/bonewatch/store", order)
    assert answer["FailedInstancesCount"] == 0, (answer, containers.situation())


def committed(containers: Containers) -> int:
    return int(containers.administrator.one("SELECT count(*) FROM deliveries WHERE state = 'committed'"))


def seen(containers: Containers) -> list[str]:
    """Return the schedulers that said they live."""
    return [str(row["name"]) for row in containers.administrator.rows("SELECT name FROM schedulers")]
