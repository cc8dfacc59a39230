"""The settings file: found, read, checked, written, and passed on to what runs for weeks."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.write_settings import DOCUMENT, TARGET, document, env_example
from tests.product import ROOT
from worker.cli.root import app
from worker.errors import SettingsError
from worker.process.up import roles
from worker.settings.file import SETTING, template
from worker.settings.settings import PREFIX, SECRETS, Settings, load_settings, read_settings

PACS = '{ name = "pacs", ae_title = "PACS", host = "10.0.0.5", port = 104 }'


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BONEWATCH_CONFIG", "")  # --config sets it: undone at the end
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".bonewatch"
    folder.mkdir()
    return folder


def write(home, text):
    path = home / "bonewatch.toml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(**overrides):
    with pytest.raises(SettingsError) as error:
        load_settings(**overrides)
    return str(error.value)


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_what_stands_in_the_file_of_the_home_is_in_force(home):
    write(home, f'dicom_port = 11113\nallowed_callers = ["PACS@10.0.0.5", "ROOM_1"]\ndestinations = [{PACS}]\n')
    settings = load_settings()
    assert settings.config == home / "bonewatch.toml"
    assert settings.dicom_port == 11113
    assert [(each.ae_title, each.host) for each in settings.allowed_callers] == [("PACS", "10.0.0.5"), ("ROOM_1", None)]
    assert settings.destinations[0].host == "10.0.0.5"


def test_a_variable_wins_over_the_file_and_an_option_over_both(home, monkeypatch):
    write(home, 'ae_title = "FILE"\ndicom_port = 11113\nui_port = 8600')
    monkeypatch.setenv("BONEWATCH_AE_TITLE", "ENVIRONMENT")
    monkeypatch.setenv("BONEWATCH_DICOM_PORT", "11114")
    settings, set_by = read_settings(dicom_port=11115)
    assert (settings.ae_title, settings.dicom_port, settings.ui_port) == ("ENVIRONMENT", 11115, 8600)
    assert set_by == {
        "ae_title": "BONEWATCH_AE_TITLE",
        "dicom_port": "option",
        "ui_port": str(home / "bonewatch.toml"),
    }


def test_an_empty_variable_leaves_the_file_in_force(home, monkeypatch):
    write(home, "dicom_port = 11113")
    monkeypatch.setenv("BONEWATCH_DICOM_PORT", "")
    assert load_settings().dicom_port == 11113


def test_another_home_has_another_file(home, tmp_path):
    write(home, "dicom_port = 11113")
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", "dicom_port = 11114")
    assert load_settings(home=tmp_path / "other").dicom_port == 11114
    assert load_settings(home=tmp_path / "none").dicom_port == 11112


def test_a_named_file_takes_the_place_of_the_homes_and_may_name_the_home(home, tmp_path, monkeypatch):
    write(home, "dicom_port = 11113\nui_port = 8600")
    named = tmp_path / "site.toml"
    named.write_text(f'dicom_port = 11114\nhome = "{tmp_path}/data"')
    monkeypatch.setenv("BONEWATCH_CONFIG", str(named))
    settings = load_settings()
    assert (settings.dicom_port, settings.ui_port, settings.home) == (11114, 8501, tmp_path / "data")
    assert load_settings(home=home).home == home


def test_a_named_file_that_is_missing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("BONEWATCH_CONFIG", str(tmp_path / "missing.toml"))
    assert complaint() == f"{tmp_path}/missing.toml: there is no such settings file; bonewatch init writes one"


def test_the_file_of_a_home_cannot_name_another_one(home, tmp_path):
    write(home, f'home = "{tmp_path}/data"')
    assert complaint().startswith(f"home in {home}/bonewatch.toml: the file that lies in a home cannot")
    write(home, f'home = "{home}"')
    assert load_settings().home == home


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dicom_prot = 1", "dicom_prot in {}: is no setting; did you mean dicom_port?"),
        ("destination = []", "destination in {}: is no setting; did you mean destinations?"),
        ("port = 104", "port in {}: is no setting; did you mean "),
        ('BONEWATCH_AE_TITLE = "X"', "BONEWATCH_AE_TITLE in {}: is no setting; did you mean ae_title?"),
        ('database_url_fil = "x"', "database_url_fil in {}: is no setting; did you mean database_url_file?"),
        ('config = "x"', "config in {}: is no setting"),
        ('[reception]\nae_title = "X"', "reception in {}: is no setting, and the file has no sections"),
        ("zzz = 1", "zzz in {}: is no setting; bonewatch settings lists them all"),
        ('dicom_port = "http"', "dicom_port in {}: is no whole number"),
        ("dicom_port = 70000", "(it is 70000); wants a TCP port"),
        ("quiet_seconds = true", "quiet_seconds in {}: is true or false; wants seconds"),
        ("ae_title = 5", "ae_title in {}: is no text"),
        ("ae_title = PACS", "{}: is not TOML: Invalid value (at line 1, column 12); texts and paths stand in double"),
        ("ui_port = 1\nui_port = 2", "{}: is not TOML: Cannot overwrite a value"),
        ('store_key = "a"\nstore_key_file = "b"', "store_key: is set, and so is store_key_file; set one of them ({})"),
        ('store_key_file = "b"', "store_key_file: the file cannot be read: No such file or directory ({})"),
        ("store_key_file = 5", "store_key_file in {}: wants the name of a file"),
        ('store_folder = "a"\nstore_url = "s3://b"', "store_url in {}: is set, and so is store_folder in {}; set one"),
        ('destinations = [{ name = "a" }]', "destinations in {}, item 1, host: is missing; wants"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_key_and_file(home, text, says):
    path = write(home, text)
    assert says.replace("{}", str(path)) in complaint()


def test_a_file_that_is_no_text_or_cannot_be_read_is_named(home):
    path = home / "bonewatch.toml"
    path.write_bytes(b'ae_title = "\xff"')
    assert complaint() == f"{path}: is not text in UTF-8"
    path.unlink()
    path.mkdir()
    assert "cannot be read" in complaint()


def test_a_password_in_a_file_is_in_no_complaint(home):
    write(home, 'database_url = "mysql://u:s3cret@h/d"\nredis_url = "http://:s3cret@h"\narchive_token = 5\nui_port = 0')
    assert "s3cret" not in complaint()
    write(home, 'database_url = "postgresql://u:s3cret@h/d')
    assert "s3cret" not in complaint()


def test_a_byte_order_mark_and_an_empty_text_do_no_harm(home):
    write(home, '\ufeffui_port = 8600\r\ndevice = ""\r\n')
    assert (load_settings().ui_port, load_settings().device) == (8600, "auto")


@pytest.mark.parametrize("name", ["database_url", "archive_token"])
def test_a_secret_of_the_file_may_be_in_a_file_of_its_own_beside_it(home, monkeypatch, name):
    (home / "secret").write_text("postgresql://bone:s3cret@db/bone\n")
    write(home, f'{name}_file = "secret"')
    assert "s3cret" in getattr(load_settings(), name).get_secret_value()
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", "postgresql://bone:other@db/bone")
    assert "other" in getattr(load_settings(), name).get_secret_value()


def test_relative_paths_are_relative_to_the_file(home, monkeypatch, tmp_path):
    write(home, 'store_folder = "files"\nbundle = "~/bundle"\nui_password_file = "/etc/passwords"')
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.store_folder == home / "files"
    assert settings.bundle == tmp_path / "bundle"
    assert settings.ui_password_file == Path("/etc/passwords")


def documented():
    return {name: (value, bool(example)) for name, value, example in SETTING.findall(template())}


def test_every_setting_stands_in_the_file_that_init_writes_with_its_default_and_no_other():
    shown = documented()
    assert set(shown) == set(Settings.model_fields) - {"config"} | {f"{name}_file" for name in SECRETS}
    for name, field in Settings.model_fields.items():
        if name in shown and not shown[name][1]:
            value = tomllib.loads(f"value = {shown[name][0]}")["value"]
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert value == (str(default) if isinstance(default, Path) else default), name
        elif name in shown:
            assert field.default in (None, ()), name


def test_every_example_of_the_file_that_init_writes_is_accepted(home):
    left_out = ("store_folder", "home", *(f"{name}_file" for name in SECRETS))  # the other kind of store, of secret
    lines = {name: f"{name} = {value}" for name, (value, _) in documented().items() if name not in left_out}
    write(home, "\n".join(lines.values()))
    assert load_settings().destinations[0].name == "pacs"


def test_every_setting_of_the_file_has_a_comment_before_it():
    lines = template().splitlines()
    for number, line in enumerate(lines):
        assert not line.startswith("#") or line.startswith("# ") or SETTING.fullmatch(line), line
        if SETTING.fullmatch(line):
            assert lines[number - 1].startswith("#"), line


def test_the_example_of_an_environment_and_the_document_are_made_from_the_same_text():
    assert TARGET.read_text(encoding="utf-8") == env_example(), "python deploy/write_settings.py"
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "python deploy/write_settings.py"


def test_init_writes_a_file_that_sets_nothing_and_only_its_owner_can_read(home, tmp_path):
    result = run("init", "--home", tmp_path / "new")
    path = tmp_path / "new" / "bonewatch.toml"
    assert (result.exit_code, str(path) in result.stdout) == (0, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert tomllib.loads(path.read_text()) == {}


def test_init_overwrites_nothing_unless_told_and_then_keeps_the_old_one(home):
    path = write(home, "dicom_port = 11113")
    result = run("init")
    assert (result.exit_code, path.read_text()) == (2, "dicom_port = 11113")
    assert "--force" in result.stderr
    assert run("init", "--force").exit_code == 0
    assert path.read_text() == template()
    assert (home / "bonewatch.toml.before").read_text() == "dicom_port = 11113"


def test_init_writes_the_file_that_is_named(tmp_path):
    assert run("init", "--config", tmp_path / "etc" / "site.toml").exit_code == 0
    assert (tmp_path / "etc" / "site.toml").read_text() == template()


@pytest.mark.parametrize("place", ["before", "behind", "joined"])
def test_the_file_may_be_named_before_and_behind_a_command(tmp_path, place):
    named = tmp_path / "site.toml"
    named.write_text("dicom_port = 11114")
    words = {
        "before": ("--config", named, "settings", "--json"),
        "behind": ("settings", "--json", "--config", named),
        "joined": ("settings", f"--config={named}", "--json"),
    }
    shown = json.loads(run(*words[place]).stdout)
    assert shown["file"] == str(named)
    assert {"name": "dicom_port", "value": 11114, "from": "file"} in shown["settings"]


def test_settings_says_what_is_in_force_and_where_from_and_masks_secrets(home, monkeypatch):
    (home / "token").write_text("s3cret")
    text = (
        'dicom_port = 11113\nallowed_callers = ["A@10.0.0.5", "B"]\ndatabase_url = "postgresql://bone:s3cret@db/bone"'
    )
    write(home, text)
    monkeypatch.setenv("BONEWATCH_AE_TITLE", "WATCH")
    monkeypatch.setenv("BONEWATCH_ARCHIVE_TOKEN_FILE", str(home / "token"))
    result = run("settings")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"settings file: {home}/bonewatch.toml"
    assert "dicom_port = 11113  [file]" in lines
    assert 'allowed_callers = ["A@10.0.0.5", "B"]  [file]' in lines
    assert 'ae_title = "WATCH"  [environment: BONEWATCH_AE_TITLE]' in lines
    assert 'database_url = "********"  [file]' in lines
    assert 'archive_token = "********"  [environment: BONEWATCH_ARCHIVE_TOKEN_FILE]' in lines
    assert "ui_port = 8501" in lines
    assert "s3cret" not in result.output + run("settings", "--json").output
    shown = {line.split(" = ")[0] for line in lines if " = " in line}
    assert shown == set(Settings.model_fields) - {"config"}


def test_settings_without_a_file_says_where_one_would_be(home):
    assert run("settings").stdout.startswith(f"settings file: none; {home}/bonewatch.toml would be read")


def test_a_problem_of_the_file_is_shown_without_a_traceback(home):
    write(home, "dicom_prot = 1")
    result = run("status")
    assert result.exit_code == 2
    assert "did you mean dicom_port?" in result.stderr
    assert "bonewatch settings" in result.stderr


def test_the_roles_of_up_have_its_settings_whatever_the_file_says_later(home, monkeypatch):
    (home / "key").write_text("s3cret")
    text = (
        f'destinations = [{PACS}]\nallowed_callers = ["PACS@10.0.0.5"]\nbody_parts = ["HAND"]\nquiet_seconds = 2.5\n'
        'heat_map = true\nreanalysis_end = 06:00:00\ndatabase_url = "postgresql://bone:s3cret@db/bone"\n'
        'archive = { name = "pacs", url = "https://pacs.example.org/dicom-web" }\nstore_folder = "files"\n'
        'redis_url = "redis://:s3cret@broker/0"\narchive_token_file = "key"\n'
    )
    write(home, text)
    monkeypatch.setenv("BONEWATCH_UI_PORT", "8600")
    first = load_settings()
    environments = [spec.environment for spec in roles(first, {}, page=True)]
    write(home, "no longer = TOML")
    assert len({json.dumps(each, sort_keys=True) for each in environments}) == 1
    for name, value in environments[0].items():
        monkeypatch.setenv(name, value)
    assert load_settings().model_copy(update={"config": None}) == first.model_copy(update={"config": None})


def test_a_role_reads_the_file_of_a_secret_itself(home, monkeypatch):
    (home / "url").write_text("postgresql://bone:s3cret@db/bone")
    monkeypatch.setenv("BONEWATCH_DATABASE_URL_FILE", str(home / "url"))
    assert "s3cret" not in json.dumps(load_settings().as_environment())


def test_another_process_reads_the_same_file(home):
    write(home, "dicom_port = 11113")
    code = "from worker.settings.settings import load_settings; print(load_settings().dicom_port)"
    environment = {"HOME": str(home.parent), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home.parent, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "11113\n"
