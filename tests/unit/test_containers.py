"""The container files: valid by their schemas, and agreeing with the settings, the commands and each other.

No container engine runs here; `tests/e2e/test_role_containers.py` starts the roles as processes with this environment.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml
from compose_spec import PyCompose

from tests.product import ROOT
from worker.cli.health import Role
from worker.cli.root import app
from worker.settings.settings import SECRETS, Settings

COMPOSE = ROOT / "docker-compose.yml"
MANIFESTS = ROOT / "deploy" / "kubernetes"
KNOWN = {f"BONEWATCH_{name.upper()}" for name in Settings.model_fields} | {
    f"BONEWATCH_{name.upper()}_FILE" for name in SECRETS
}
HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


@cache
def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


@cache
def manifests() -> tuple[dict[str, Any], ...]:
    names = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    assert sorted(names) == sorted(path.name for path in MANIFESTS.glob("*.yaml") if path.name != "kustomization.yaml")
    return tuple(each for name in names for each in yaml.safe_load_all((MANIFESTS / name).read_text()))


def pods() -> list[tuple[str, dict[str, Any]]]:
    kinds = ("Deployment", "StatefulSet", "Job")
    return [
        (each["metadata"]["name"], each["spec"]["template"]["spec"]) for each in manifests() if each["kind"] in kinds
    ]


def commands() -> set[str]:
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_compose_is_valid_by_its_specification():
    # As JSON, in which what the anchors stand for is written out.
    parsed = PyCompose.from_json(json.dumps(compose()))
    parsed.validate()
    assert set(parsed.service_names()) == set(compose()["services"])


SERVICES = sorted(compose()["services"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened_limited_restarted_and_looked_at(name):
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["restart"] == ("no" if name == "upgrade" else "unless-stopped")
    assert service["healthcheck"].get("test") or name == "upgrade"


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_exists(name):
    everything, service = compose(), compose()["services"][name]
    assert set(service.get("depends_on", ())) <= set(everything["services"])
    assert set(service.get("secrets", ())) <= set(everything["secrets"])
    mounts = [mount.split(":")[0] for mount in service.get("volumes", ())]
    assert {mount for mount in mounts if not mount.startswith("./")} <= set(everything["volumes"])
    assert all((ROOT / mount).exists() for mount in mounts if mount.startswith("./"))
    for variable, value in service.get("environment", {}).items():
        assert variable in KNOWN or not variable.startswith("BONEWATCH_")
        if str(value).startswith("/run/secrets/"):
            assert Path(value).name in service["secrets"]
    if service["image"].startswith("bonewatch"):
        assert service["command"][0] in commands()


def test_a_health_check_asks_for_the_role_that_the_service_runs():
    roles = {role.value for role in Role}
    for service in compose()["services"].values():
        command = service.get("command", [""])[0]
        if command in roles:
            assert service["healthcheck"]["test"] == ["CMD", "bonewatch", "health", command]
    assert {service.get("command", [""])[0] for service in compose()["services"].values()} >= roles


def test_what_is_secret_is_named_as_a_file():
    variables = [pair for each in compose()["services"].values() for pair in each.get("environment", {}).items()]
    variables += [(v["name"], v["value"]) for _, pod in pods() for c in pod["containers"] for v in c.get("env", ())]
    secret = [(name, value) for name, value in variables if re.search("PASSWORD|SECRET|TOKEN|DATABASE_URL", name)]
    assert len(secret) > 10
    assert all(name.endswith("_FILE") and value.startswith("/run/secrets/") for name, value in secret)
    assert {each["kind"] for each in manifests()}.isdisjoint({"Secret"})


@pytest.mark.parametrize("place", range(len(manifests())))
def test_a_manifest_is_valid_by_the_schema_of_kubernetes(place):
    manifest = manifests()[place]
    if manifest["kind"] == "ScaledObject":  # KEDA's own kind: no schema of Kubernetes knows it
        lists = {trigger["metadata"]["listName"] for trigger in manifest["spec"]["triggers"]}
        assert lists == {"live", "archive"}
        assert manifest["spec"]["scaleTargetRef"]["name"] == "worker"
        return
    kubernetes_validate.validate(manifest, "1.33", strict=True)


@pytest.mark.parametrize(("name", "pod"), pods(), ids=[name for name, _ in pods()])
def test_a_pod_runs_as_nobody_special_with_limits_and_probes(name, pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == HARDENED
    assert set(container["resources"]) == {"requests", "limits"}
    assert name == "upgrade" or "livenessProbe" in container
    volumes = {volume["name"] for volume in pod["volumes"]}
    claims = {"data"} if name in ("broker", "database") else set()
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes | claims


@pytest.mark.parametrize(("name", "pod"), pods(), ids=[name for name, _ in pods()])
def test_what_a_pod_names_exists(name, pod):
    (container,) = pod["containers"]
    variables = {each["name"]: each["value"] for each in container.get("env", ())}
    (configuration,) = (each["data"] for each in manifests() if each["kind"] == "ConfigMap")
    assert {variable for variable in {*variables, *configuration} if variable.startswith("BONEWATCH_")} <= KNOWN
    if container["image"].startswith("bonewatch"):
        assert container["args"][0] in commands()
        probes = [container[kind]["exec"]["command"] for kind in ("startupProbe", "livenessProbe") if kind in container]
        assert all(probe == ["bonewatch", "health", container["args"][0]] for probe in probes)
    claims = {each["metadata"]["name"] for each in manifests() if each["kind"] == "PersistentVolumeClaim"}
    wanted = {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    assert wanted <= claims


def test_the_image_runs_as_nobody_special_and_is_looked_at():
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    assert "USER 10001:10001" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert any(line.startswith("ARG TORCH_INDEX_URL") for line in lines)
