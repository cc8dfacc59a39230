"""Promotion: checked, copied, recorded, current at once; and nothing else makes a bundle current."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.bundle import load_bundle
from models.manifest import SHIPPED, read_manifest
from models.types import BundleError
from tests.bundles import write_tiny_bundle
from tests.site import run, write_lively_bundle
from worker.bundles.promotion import promote
from worker.settings.current_bundle import current_bundle, link_of, record_of, shadow_bundle

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BONEWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BONEWATCH_BUNDLE", raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    assert run("db", "upgrade").exit_code == 0
    return tmp_path / "home"


def test_a_promoted_bundle_is_current_and_recorded(tmp_path: Path, home: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "new")

    result = run("train", "promote", bundle)

    assert result.exit_code == 0, result.output
    current = current_bundle(home)
    assert current is not None
    version = load_bundle(current).version
    assert current == home / "bundles" / version
    line = json.loads(record_of(home).read_text())
    assert (line["after"], sorted(line)) == (version, ["after", "at", "before", "by", "role"])


def test_the_older_bundle_can_be_promoted_again(tmp_path: Path, home: Path) -> None:
    first = promote(write_tiny_bundle(tmp_path / "a"), home, NOW)
    write_lively_bundle(tmp_path / "b")
    second = promote(tmp_path / "b", home, NOW)

    third = promote(home / "bundles" / first.after, home, NOW)

    assert second.before == third.after == first.after != second.after
    assert current_bundle(home) == home / "bundles" / first.after
    assert len(record_of(home).read_text().splitlines()) == 3


def test_a_damaged_bundle_is_refused_and_nothing_changes(tmp_path: Path, home: Path) -> None:
    promote(write_tiny_bundle(tmp_path / "good"), home, NOW)
    before = current_bundle(home)
    damaged = shutil.copytree(tmp_path / "good", tmp_path / "damaged")
    (damaged / "detector.safetensors").write_bytes(b"x" * (damaged / "detector.safetensors").stat().st_size)

    with pytest.raises(BundleError, match="does not match its SHA-256"):
        promote(damaged, home, NOW)

    assert current_bundle(home) == before
    assert len(record_of(home).read_text().splitlines()) == 1


def test_a_current_bundle_that_is_damaged_can_be_replaced(tmp_path: Path, home: Path) -> None:
    good = promote(write_tiny_bundle(tmp_path / "good"), home, NOW)
    (home / "bundles" / good.after / "bundle.json").write_text("no JSON")
    write_lively_bundle(tmp_path / "b")

    promotion = promote(tmp_path / "b", home, NOW)

    assert promotion.before is None
    assert current_bundle(home) == home / "bundles" / promotion.after


def test_promoting_is_refused_where_a_variable_would_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("BONEWATCH_BUNDLE", str(tmp_path / "other"))
    result = run("train", "promote", write_tiny_bundle(tmp_path / "new"))
    assert result.exit_code == 2
    assert "BONEWATCH_BUNDLE is set" in result.output
    assert current_bundle(home) is None


def test_every_change_is_in_sql_with_who_when_and_where(tmp_path: Path, home: Path) -> None:
    version = run("models", "install", write_tiny_bundle(tmp_path / "new")).stdout.split()[1].rstrip(";")
    assert current_bundle(home) is None

    assert run("models", "promote", version).exit_code == 0
    assert run("train", "promote", home / "bundles" / version).exit_code == 0

    found = json.loads(run("models", "history", "--json").stdout)
    assert [(each["after_version"], each["before_version"]) for each in found] == [
        (version, version), (version, read_manifest(SHIPPED).version),
    ]  # fmt: skip
    assert all(each["changed_by"] and each["host"] and each["at"] for each in found)
    listed = json.loads(run("models", "list", "--json").stdout)["bundles"]
    assert [(each["version"], each["current"]) for each in listed if each["current"]] == [(version, True)]
    assert [each["shipped"] for each in listed] == [True, False]


def test_a_bundle_runs_in_shadow_until_it_is_taken_off_or_promoted_and_every_change_is_recorded(
    tmp_path: Path, home: Path
) -> None:
    version = run("models", "install", write_tiny_bundle(tmp_path / "new")).stdout.split()[1].rstrip(";")

    assert f"in shadow: {version}" in run("models", "shadow", version).stdout
    assert (shadow_bundle(home), current_bundle(home)) == (home / "bundles" / version, None)
    listed = json.loads(run("models", "list", "--json").stdout)["bundles"]
    assert [(each["current"], each["shadow"]) for each in listed] == [(True, False), (False, True)]
    assert "in shadow" in run("models", "list").stdout
    assert "runs in shadow no longer" in run("models", "shadow", "--off").stdout
    assert "no bundle ran in shadow" in run("models", "shadow", "--off").stdout
    assert run("models", "shadow", version).exit_code == run("models", "promote", version).exit_code == 0

    assert (shadow_bundle(home), current_bundle(home)) == (None, home / "bundles" / version)
    found = json.loads(run("models", "history", "--json").stdout)
    assert [(each["role"], each["before_version"], each["after_version"]) for each in found] == [
        ("shadow", version, None), ("current", read_manifest(SHIPPED).version, version), ("shadow", None, version),
        ("shadow", version, None), ("shadow", None, version),
    ]  # fmt: skip
    assert len(record_of(home).read_text().splitlines()) == 5


def test_the_current_bundle_cannot_be_its_own_shadow(tmp_path: Path, home: Path) -> None:
    version = promote(write_tiny_bundle(tmp_path / "new"), home, NOW).after
    result = run("models", "shadow", version)
    assert (result.exit_code, "is the current bundle" in result.stderr) == (3, True)
    assert run("models", "shadow").exit_code == 2
    assert shadow_bundle(home) is None


def test_a_change_that_sql_cannot_record_does_not_happen(tmp_path: Path, home: Path) -> None:
    (home / "bonewatch.sqlite3").unlink()
    result = run("models", "promote", write_tiny_bundle(tmp_path / "new"))
    assert (result.exit_code, "bonewatch db upgrade" in result.stderr) == (3, True)
    assert run("models", "shadow", tmp_path / "new").exit_code == 3
    assert (current_bundle(home), shadow_bundle(home)) == (None, None)


def test_a_damaged_bundle_is_listed_with_what_is_wrong(tmp_path: Path, home: Path) -> None:
    version = promote(write_tiny_bundle(tmp_path / "new"), home, NOW).after
    (home / "bundles" / version / "bundle.json").write_text("{")
    (damaged,) = [e for e in json.loads(run("models", "list", "--json").stdout)["bundles"] if not e["shipped"]]
    assert (damaged["version"], damaged["current"]) == (version, True)
    assert damaged["obstacle"]


def test_promote_wants_one_bundle() -> None:
    assert run("models", "promote").exit_code == 2
    assert run("train", "promote").exit_code == 2


@pytest.mark.slow
def test_the_way_back_to_the_bundle_that_ships(tmp_path: Path, home: Path) -> None:
    promote(write_tiny_bundle(tmp_path / "new"), home, NOW)

    result = run("train", "promote", "--shipped")

    assert result.exit_code == 0, result.output
    shipped = read_manifest(SHIPPED).version
    assert json.loads(record_of(home).read_text().splitlines()[-1])["after"] == shipped
    assert current_bundle(home) is None
    assert not (home / "bundles" / shipped).exists()


@pytest.mark.parametrize("name", ["README.md", "detector.safetensors"])
def test_a_bundle_with_a_symbolic_link_is_refused_and_nothing_changes(tmp_path: Path, home: Path, name: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "new")
    (bundle / name).rename(tmp_path / "elsewhere")
    (bundle / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BundleError, match=f"holds a symbolic link, '{name}'"):
        promote(bundle, home, NOW)

    assert current_bundle(home) is None
    assert not record_of(home).exists()


def test_the_card_and_what_the_manifest_names_are_kept_and_nothing_else(tmp_path: Path, home: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "new")
    (bundle / "notes.txt").write_text("not of the bundle")

    kept = home / "bundles" / promote(bundle, home, NOW).after

    assert {path.name for path in kept.iterdir()} == {path.name for path in bundle.iterdir()} - {"notes.txt"}
    assert (kept / "README.md").read_text() == "A test bundle.\n"


def test_a_kept_folder_with_another_bundle_is_refused_and_nothing_changes(tmp_path: Path, home: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "new")
    write_lively_bundle(home / "bundles" / read_manifest(bundle).version)

    with pytest.raises(BundleError, match="instead of"):
        promote(bundle, home, NOW)

    assert current_bundle(home) is None
    assert not record_of(home).exists()


def test_a_current_bundle_that_is_a_folder_is_used(home: Path) -> None:
    write_tiny_bundle(link_of(home))
    assert current_bundle(home) == link_of(home)


def test_a_folder_where_the_link_belongs_is_never_replaced_nor_recorded_over(tmp_path: Path, home: Path) -> None:
    write_tiny_bundle(link_of(home))

    for bundle in (write_tiny_bundle(tmp_path / "new"), SHIPPED):
        with pytest.raises(BundleError, match="move it away"):
            promote(bundle, home, NOW)

    assert not record_of(home).exists()


def test_a_folder_that_is_not_there_is_refused_and_the_home_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no readable bundle\.json"):
        promote(tmp_path / "gone", tmp_path / "new home", NOW)
    assert not (tmp_path / "new home").exists()


@pytest.mark.parametrize("kind", ["empty folder", "file", "dangling link", "link to itself"])
def test_a_current_bundle_that_is_none_fails_and_the_one_that_ships_does_not_answer(home: Path, kind: str) -> None:
    link = link_of(home)
    link.parent.mkdir(parents=True)
    makers: dict[str, Callable[[], object]] = {
        "empty folder": link.mkdir,
        "file": lambda: link.write_text("no bundle"),
        "dangling link": lambda: link.symlink_to("gone"),
        "link to itself": lambda: link.symlink_to(link.name),
    }
    makers[kind]()

    current = current_bundle(home)

    assert current is not None
    with pytest.raises(BundleError):
        load_bundle(current)


@pytest.mark.parametrize("command", ["analyze", "evaluate"])
def test_the_help_says_which_model_is_used(command: str) -> None:
    words = " ".join(run(command, "--help").output.replace("│", " ").split())
    assert "BONEWATCH_BUNDLE, else the promoted one, else the one that ships" in words
