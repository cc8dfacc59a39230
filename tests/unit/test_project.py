"""Rules that hold for the whole tree."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
import typer.main

from tests.product import ROOT
from worker.cli.root import app
from worker.settings.settings import SECRETS, Settings

LOG_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
NOT_OURS = {".git", ".venv", "build", "dist", "node_modules", "__pycache__", "bonewatch.egg-info"}
# Put together here, so that this file does not break its own rule.
MACHINES = ["/wor" + "k/", "/ro" + "ot/", "/tmp/" + r"\w", "/hom" + r"e/\w"]
MACHINE_PATHS = re.compile(r"(?<![\w.}])(?:" + "|".join(MACHINES) + ")")
REGISTRIES = ["pypi" + r"\.org", "pythonhosted" + r"\.org", "download" + r"\.pytorch", "/simple" + "/"]
REGISTRY_HOSTS = re.compile("|".join(REGISTRIES))
# A container has paths of its own: they name no machine.
OF_CONTAINERS = {"deploy/Dockerfile", "docker-compose.yml"}


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the tree, as git lists them; outside of a checkout, every file that is not made by a tool."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0 and listed.stdout:
        found = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        found = [path for path in ROOT.rglob("*") if not NOT_OURS & set(path.relative_to(ROOT).parts)]
    return tuple(path for path in found if path.is_file())


@cache
def texts() -> dict[str, str]:
    """Every text file by its path in the tree."""
    found = {}
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            found[path.relative_to(ROOT).as_posix()] = content.decode("utf-8", errors="replace")
    return found


def lines_with(pattern: re.Pattern[str], but: set[str] = frozenset()) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, content in texts().items()
        if name not in but
        for number, line in enumerate(content.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_file_names_a_path_of_some_machine():
    assert not lines_with(MACHINE_PATHS, but=OF_CONTAINERS)


def test_no_file_names_the_host_of_a_package_registry():
    assert not lines_with(REGISTRY_HOSTS)


def test_every_variable_that_is_named_anywhere_is_a_setting():
    known = {f"BONEWATCH_{name.upper()}" for name in Settings.model_fields}
    known |= {f"BONEWATCH_{name.upper()}_FILE" for name in SECRETS}
    known |= {"BONEWATCH_REQUIRE_PEERS"}  # of the tests: see tests/peers.py
    readable = {name: text for name, text in texts().items() if not name.startswith("tests/")}

    named = {word for text in readable.values() for word in re.findall(r"\bBONEWATCH_[A-Z][A-Z_]*[A-Z]\b", text)}

    assert named - known - {"BONEWATCH_DATABASE_URL", "BONEWATCH_REDIS_URL"} == set()


def commands() -> dict[str, object]:
    """The commands of the console script by name, sub-commands as 'db upgrade'."""

    def walk(command, prefix: str) -> dict[str, object]:
        found = {}
        for name, member in getattr(command, "commands", {}).items():
            full = f"{prefix} {name}".strip()
            found |= walk(member, full) or {full: member}
        return found

    return walk(typer.main.get_command(app), "")


DOCUMENTS = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]


def code_of(document: str) -> list[str]:
    """Return what a document shows to be typed: indented lines, words in backticks, blocks of shell, prompts."""
    text = texts()[document]
    typed = re.findall(r"^```(sh|bash|console)\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    lines = [
        line.strip()
        for kind, block in typed
        for line in block.splitlines()
        if kind != "console" or line.startswith("$ ")
    ]
    return lines + re.findall(r"^ {4,}(.*)$", rest, re.M) + re.findall(r"`([^`\n]+)`", rest)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_a_document_shows_exists_with_its_options(document):
    known = commands()
    shown = [line.removeprefix("$ ").removeprefix(".venv/bin/") for line in code_of(document)]
    for line in shown:
        found = re.match(r"bonewatch ((?:[a-z]+(?:-[a-z]+)* ?)+)([^#|]*)", line)
        if not found:
            continue
        words = found[1].strip()
        name = max((each for each in known if f"{words} ".startswith(f"{each} ")), key=len, default=None)
        assert name, f"{document} shows `{line}`"
        options = {option for parameter in known[name].params for option in parameter.opts + parameter.secondary_opts}
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", line):
            assert option in options | {"--help"}, f"{document} shows `{line}`"


def test_every_make_target_that_a_document_shows_exists():
    targets = set(re.findall(r"^([a-z-]+):", texts()["Makefile"], re.M))
    for document in [*DOCUMENTS, "CONTRIBUTING.md", ".ci/run"]:
        shown = set(re.findall(r"(?:^\s*|`)make ([a-z-]+)\b", texts()[document], re.M))
        assert shown <= targets, document


def test_constraints_pin_every_dependency_exactly():
    project = tomllib.loads(texts()["pyproject.toml"])["project"]
    needed = project["dependencies"] + [each for extra in project["optional-dependencies"].values() for each in extra]
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", texts()["constraints.txt"], re.M))
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}

    missing = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() for line in needed} - names

    assert not missing
    loose = [line for line in texts()["constraints.txt"].splitlines() if line and not re.match(r"#|[\w.-]+==", line)]
    assert not loose


def log_events(source):
    """Yield the words of each call of a logger, whichever of several an expression chooses."""
    for node in ast.walk(ast.parse(source)):
        is_log = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_LEVELS
        if is_log and isinstance(node.func.value, ast.Name) and node.func.value.id == "log":
            yield from (each.value for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant))


def test_log_events_are_names_that_alert_rules_can_match():
    events = [word for name in texts() if name.startswith(("worker/", "dicom_io/")) and name.endswith(".py")
              for word in log_events(texts()[name])]  # fmt: skip
    assert len(events) > 40
    assert [word for word in events if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", word)] == []
