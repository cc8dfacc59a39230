"""What a site may set, what it is told when it is wrong, and what is never shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_io.header.scope import ScopeRule
from dicom_io.receive.listener_settings import AllowedCaller, ListenerSettings
from tests.product import ROOT
from worker.errors import SettingsError
from worker.settings.settings import PREFIX, SECRETS, Settings, load_settings
from worker.settings.store import STORE_SECRETS

EXAMPLE = ROOT / "deploy" / "env.example"
PACS = {"name": "pacs", "ae_title": "PACS", "host": "10.0.0.5", "port": 104}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch, tmp_path):
    for name in [name for name in __import__("os").environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def complaint(**overrides):
    with pytest.raises(SettingsError) as error:
        load_settings(**overrides)
    return str(error.value)


def test_without_any_variable_everything_lies_in_the_home_folder(tmp_path):
    settings = load_settings()
    home = tmp_path / ".bonewatch"
    assert (settings.home, settings.store) == (home, home / "store")
    assert settings.sqlalchemy_url().render_as_string() == f"sqlite:///{home}/bonewatch.sqlite3"
    assert settings.uses_embedded_broker


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        load_settings().ae_title = "OTHER"


def test_an_option_of_the_command_line_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("BONEWATCH_AE_TITLE", "FROM_ENV")
    assert load_settings(ae_title=None).ae_title == "FROM_ENV"
    assert load_settings(ae_title="OPTION").ae_title == "OPTION"


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("BONEWATCH_DICOM_PORT", "")
    assert load_settings().dicom_port == 11112


@pytest.mark.parametrize(
    ("variable", "value", "wants"),
    [
        ("BONEWATCH_DICOM_PORT", "http", "wants a TCP port"),
        ("BONEWATCH_DICOM_PORT", "70000", "wants a TCP port"),
        ("BONEWATCH_AE_TITLE", "SEVENTEEN_LETTERS", "1 to 16 characters"),
        ("BONEWATCH_AE_TITLE", "BACK\\SLASH", "1 to 16 characters"),
        ("BONEWATCH_QUIET_SECONDS", "0", "wants seconds"),
        ("BONEWATCH_QUIET_SECONDS", "nan", "wants seconds"),
        ("BONEWATCH_DEVICE", "gpu", "wants auto, cpu, cuda"),
        ("BONEWATCH_DATABASE_URL", "mysql://u:secret@h/d", "wants sqlite:///"),
        ("BONEWATCH_DATABASE_URL", "sqlite://", "names no file"),
        ("BONEWATCH_REDIS_URL", "amqp://u:secret@h", "wants redis://"),
        ("BONEWATCH_DESTINATIONS", "PACS", "is not JSON"),
        ("BONEWATCH_DESTINATIONS", json.dumps([PACS, PACS]), "same name"),
        ("BONEWATCH_STORE_URL", "https://objects.example.org/radiographs", "wants s3://"),
        ("BONEWATCH_STORE_URL", "s3://user:secret@radiographs", "wants s3://"),
        ("BONEWATCH_STORE_ENDPOINT", "objects.example.org", "wants http(s)://"),
        ("BONEWATCH_ALLOWED_CALLERS", "A,SEVENTEEN_LETTERS", "item 2"),
    ],
)
def test_a_wrong_value_is_answered_with_its_variable_and_what_it_wants(monkeypatch, variable, value, wants):
    monkeypatch.setenv(variable, value)
    line = complaint()
    assert line.startswith(f"{variable}")
    assert wants in line
    assert "\n" not in line


def test_a_destination_answers_for_itself_unless_the_site_says_who_does(monkeypatch):
    cluster = {**PACS, "name": "cluster", "answers_from": ["PACS@10.0.0.0/28", "PACS_SCU"]}
    monkeypatch.setenv("BONEWATCH_DESTINATIONS", json.dumps([PACS, cluster]))
    assert load_settings().answerers() == {
        "pacs": (AllowedCaller(PACS["ae_title"], PACS["host"]),),
        "cluster": (AllowedCaller("PACS", "10.0.0.0/28"), AllowedCaller("PACS_SCU")),
    }


@pytest.mark.parametrize(
    ("value", "wants"),
    [
        (PACS, ": is one object, and a list of them is wanted: put it into square brackets"),
        ([["PACS"]], ", item 1: is no object with a name and a value for each key"),
        ("PACS", ": is no list"),
        ([{**PACS, "aet": "PACS"}], ", item 1, aet: is no key of it; did you mean ae_title?"),
        ([{**PACS, "AE-Title": "PACS"}], ", item 1, AE-Title: is no key of it; did you mean ae_title?"),
        ([{**PACS, "confrim": "store"}], ", item 1, confrim: is no key of it; did you mean confirm?"),
        ([{**PACS, "ip": "10.0.0.5"}], ", item 1, ip: is no key of it; did you mean host?"),
        ([{**PACS, "colour": "red"}], ", item 1, colour: is no key of it; it has name, ae_title, host, port"),
        ([{**PACS, "port": "104x"}], ", item 1, port: is no whole number (it is '104x')"),
        ([{key: PACS[key] for key in ("name", "host", "port")}], ", item 1, ae_title: is missing"),
    ],
)
def test_a_mistake_in_a_destination_is_named_with_what_was_meant(monkeypatch, value, wants):
    monkeypatch.setenv("BONEWATCH_DESTINATIONS", json.dumps(value))
    assert complaint().startswith(f"BONEWATCH_DESTINATIONS{wants}")


def test_all_problems_are_told_at_once(monkeypatch):
    monkeypatch.setenv("BONEWATCH_DICOM_PORT", "x")
    monkeypatch.setenv("BONEWATCH_DESTINATIONS", json.dumps([{**PACS, "port": 0, "confirm": "hope"}]))
    lines = complaint().splitlines()
    assert {line.split(":")[0] for line in lines} == {
        "BONEWATCH_DICOM_PORT",
        "BONEWATCH_DESTINATIONS, item 1, port",
        "BONEWATCH_DESTINATIONS, item 1, confirm",
    }
    assert len(lines) == 3


def test_a_misspelled_variable_is_refused_instead_of_ignored(monkeypatch):
    monkeypatch.setenv("BONEWATCH_DESTINATION", json.dumps([PACS]))
    assert complaint() == "BONEWATCH_DESTINATION: is no setting; did you mean BONEWATCH_DESTINATIONS?"


def test_a_variable_that_resembles_none_of_ours_is_left_alone(monkeypatch):
    monkeypatch.setenv("BONEWATCH_REQUIRE_PEERS", "1")
    load_settings()


def test_an_unknown_option_is_refused():
    assert complaint(colour="red") == "BONEWATCH_COLOUR: is no setting"


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_can_come_from_a_file(monkeypatch, tmp_path, name):
    urls = {"database_url": "postgresql://bone:s3cret@db/bone", "redis_url": "redis://:s3cret@broker/0"}
    secret = urls.get(name, "s3cret")
    if name in STORE_SECRETS:  # each half of a key needs the other
        for half in STORE_SECRETS:
            monkeypatch.setenv(f"{PREFIX}{half.upper()}", "" if half == name else "other")
    (tmp_path / "secret").write_text(secret + "\n")
    monkeypatch.setenv(f"{PREFIX}{name.upper()}_FILE", str(tmp_path / "secret"))
    assert getattr(load_settings(), name).get_secret_value() == secret


def test_object_storage_takes_the_place_of_the_folder_and_caches_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("BONEWATCH_STORE_URL", "s3://radiographs/bonewatch/")
    settings = load_settings()
    assert settings.object_storage().url == "s3://radiographs/bonewatch"
    assert settings.store == tmp_path / ".bonewatch" / "store-cache"
    monkeypatch.setenv("BONEWATCH_STORE_FOLDER", str(tmp_path))
    assert "set one of them" in complaint()


def test_a_secret_set_twice_or_unreadable_or_empty_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("BONEWATCH_REDIS_URL_FILE", str(tmp_path / "missing"))
    assert complaint() == "BONEWATCH_REDIS_URL_FILE: the file cannot be read: No such file or directory"
    (tmp_path / "missing").write_text(" \n")
    assert complaint() == "BONEWATCH_REDIS_URL_FILE: the file is empty"
    monkeypatch.setenv("BONEWATCH_REDIS_URL", "redis://other")
    assert "set one of them" in complaint()


def test_secrets_appear_in_no_repr_and_no_complaint(monkeypatch):
    monkeypatch.setenv("BONEWATCH_DATABASE_URL", "postgresql://bone:s3cret@db/bone")
    monkeypatch.setenv("BONEWATCH_REDIS_URL", "redis://:s3cret@broker/0")
    settings = load_settings()
    assert "s3cret" not in f"{settings!r} {settings} {settings.sqlalchemy_url()} {settings.model_dump_json()}"
    monkeypatch.setenv("BONEWATCH_DATABASE_URL", "postgresql://bone:s3cret@db/bone?password=s3cret")
    monkeypatch.setenv("BONEWATCH_REDIS_URL", "http://:s3cret@broker/0")
    assert "s3cret" not in complaint()


def test_a_postgresql_address_gets_the_driver_that_ships():
    url = load_settings(database_url="postgresql://bone:s3cret@db:5433/bone").sqlalchemy_url()
    assert (url.drivername, url.host, url.port, url.database) == ("postgresql+pg8000", "db", 5433, "bone")


def test_lists_of_words_are_separated_by_commas_and_become_upper_case(monkeypatch):
    monkeypatch.setenv("BONEWATCH_BODY_PARTS", "hand, Foot,")
    assert load_settings().body_parts == ("HAND", "FOOT")


def test_callers_are_ae_titles_with_or_without_a_host(monkeypatch):
    monkeypatch.setenv("BONEWATCH_ALLOWED_CALLERS", "PACS@10.0.0.5, MODALITY")
    callers = [(caller.ae_title, caller.host) for caller in load_settings().allowed_callers]
    assert callers == [("PACS", "10.0.0.5"), ("MODALITY", None)]


def test_destinations_are_called_from_our_own_ae_title(monkeypatch):
    monkeypatch.setenv("BONEWATCH_DESTINATIONS", json.dumps([{**PACS, "confirm": "find"}]))
    (pacs,) = load_settings(ae_title="WATCH").destinations_tuple()
    assert (pacs.name, pacs.ae_title, pacs.host, pacs.port) == ("pacs", "PACS", "10.0.0.5", 104)
    assert (pacs.calling_ae_title, pacs.confirm) == ("WATCH", "find")


def test_the_defaults_of_the_listener_are_the_listeners_own():
    assert load_settings().listener() == ListenerSettings()


def test_the_listener_gets_what_the_site_has_set():
    listener = load_settings(ae_title="WATCH", dicom_port=0, allowed_callers="PACS@10.0.0.0/8").listener()
    assert (listener.ae_title, listener.port) == ("WATCH", 0)
    assert listener.admits("PACS", "10.1.2.3")
    assert not listener.admits("PACS", "11.1.2.3")


def test_the_defaults_of_the_scope_rule_are_the_rules_own():
    assert load_settings().scope() == ScopeRule()


def test_the_scope_rule_gets_what_the_site_has_set():
    rule = load_settings(body_parts="hand,upper arm", modalities="cr", accept_unknown_body_part=True).scope()
    assert rule == ScopeRule(
        modalities=frozenset({"CR"}), body_parts=frozenset({"HAND", "UPPERARM"}), accept_unknown_body_part=True
    )


def test_what_only_the_site_can_choose_is_named_until_it_has_chosen():
    named = " ".join(load_settings().unchosen())
    assert re.findall(r"BONEWATCH_\w+", named) == [
        "BONEWATCH_DESTINATIONS",
        "BONEWATCH_ALLOWED_CALLERS",
        "BONEWATCH_ACCEPT_UNKNOWN_BODY_PART",
    ]
    chosen = load_settings(destinations=[PACS], allowed_callers="PACS", accept_unknown_body_part=False)
    assert chosen.unchosen() == ()


def test_the_example_file_documents_every_variable_with_its_default_and_no_other():
    documented = dict(re.findall(r"^#?\s?(BONEWATCH_\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    fields = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}  # config too, which no file has
    assert set(documented) == fields | {f"{PREFIX}{name.upper()}_FILE" for name in SECRETS}


def test_the_example_file_shows_the_default_of_every_plain_setting():
    shown = dict(re.findall(r"^#?\s?(BONEWATCH_\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, bool | int | float | str):
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert shown[f"{PREFIX}{name.upper()}"].strip() in (default, default.removesuffix(".0")), name


def test_every_example_in_the_example_file_is_accepted(monkeypatch):
    shown = re.findall(r"^#?\s?(BONEWATCH_\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)
    for variable, value in shown:
        if not variable.endswith("_FILE"):
            monkeypatch.setenv(variable, value)
    monkeypatch.delenv("BONEWATCH_STORE_FOLDER")  # the other kind of store
    monkeypatch.delenv("BONEWATCH_CONFIG")  # there is no such file
    assert load_settings().destinations


def test_the_home_folder_is_expanded(tmp_path):
    assert load_settings(home=Path("~/elsewhere")).home == tmp_path / "elsewhere"


def test_a_promoted_bundle_is_used_unless_the_site_names_another(tmp_path):
    settings = load_settings(home=tmp_path)
    assert settings.installed_bundle() is None

    (tmp_path / "bundles" / "2026-01-01-site+00000000").mkdir(parents=True)
    (tmp_path / "bundles" / "current").symlink_to("2026-01-01-site+00000000")

    assert settings.installed_bundle() == tmp_path / "bundles" / "2026-01-01-site+00000000"
    assert load_settings(home=tmp_path, bundle=tmp_path / "own").installed_bundle() == tmp_path / "own"
