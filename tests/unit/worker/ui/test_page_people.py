"""Who may look at the page: the password file, its back-off, and when the page refuses to start."""

from __future__ import annotations

import socket
import stat

import pytest
from argon2.exceptions import VerificationError
from typer.testing import CliRunner

from tests.peers import LOOPBACK, free_port
from worker.cli.root import app
from worker.errors import StartRefused
from worker.settings.settings import load_settings
from worker.ui.access import people as people_file
from worker.ui.access.login_methods import check_page
from worker.ui.access.people import FREE_FAILURES, MOST_FAILED_NAMES, People, Person, set_password

PASSWORD = "correct horse battery"  # noqa: S105 - of the tests


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "passwords"
    set_password(path, "ada", "viewer", PASSWORD)
    return path


def settings(tmp_path, **given):
    return load_settings(home=tmp_path, ui_port=free_port(), **given)


def test_only_the_right_password_of_the_right_name_is_accepted(file):
    people = People(file)
    assert people.check("ada", PASSWORD) == Person("ada", "viewer")
    assert people.check("ada", PASSWORD + "!") is None
    assert people.check("bob", PASSWORD) is None


def test_the_file_holds_no_password_and_is_its_owners_alone(file):
    assert PASSWORD not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_after_some_failures_even_the_right_password_waits(file):
    now = 0.0
    people = People(file, clock=lambda: now)
    for _ in range(FREE_FAILURES):
        assert people.check("ada", "a wrong password") is None
    assert people.check("ada", PASSWORD) is None
    assert people.seconds_to_wait("bob") == 0
    now = people.seconds_to_wait("ada") + 0.1
    assert people.check("ada", PASSWORD) == Person("ada", "viewer")


def test_no_number_of_invented_names_unlocks_a_known_one_or_fills_the_memory(file, monkeypatch):
    monkeypatch.setattr(people_file, "HASHER", Refusing())
    people = People(file, clock=lambda: 0.0)
    for name in ("ada", *(f"stranger{number}" for number in range(MOST_FAILED_NAMES + 10))):
        for _ in range(FREE_FAILURES):
            people.check(name, "a wrong password")
    assert people.seconds_to_wait("ada") > 0
    assert people.seconds_to_wait(name) > 0, "an unknown name is told from a known one by nothing"
    assert len(people._failures) == MOST_FAILED_NAMES
    people.check("x" * 10_000, "a wrong password")
    assert "x" * 10_000 not in people._failures


class Refusing:
    """A hasher that costs no time."""

    def verify(self, *_):
        raise VerificationError


def test_a_change_of_the_file_counts_at_once(file):
    people = People(file)
    assert people.find("ada") == Person("ada", "viewer")
    set_password(file, "ada", "operator", PASSWORD)
    assert people.find("ada") == Person("ada", "operator")
    set_password(file, "bob", "viewer", PASSWORD)
    take_out(file, "ada")
    assert people.find("ada") is None
    assert people.find("bob") == Person("bob", "viewer")


@pytest.mark.parametrize("line", ["ada", "ada:viewer:plain", "ada:chief:$argon2id$", "<b>:viewer:$argon2id$"])
def test_a_wrong_line_is_refused_by_its_number(file, line):
    file.write_text(f"# people\n{line}\n")
    with pytest.raises(StartRefused, match="line 2"):
        People(file).find("ada")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "bonewatch.example"])
def test_beyond_this_machine_the_page_does_not_start_without_a_login(tmp_path, host):
    with pytest.raises(StartRefused, match="page-password"):
        check_page(settings(tmp_path, ui_host=host))


def test_with_a_password_file_it_starts_and_asks(tmp_path, file):
    assert not check_page(settings(tmp_path, ui_host="0.0.0.0", ui_password_file=file)).is_open
    assert check_page(settings(tmp_path)).is_open


def test_a_missing_file_or_a_taken_port_is_refused(tmp_path):
    with pytest.raises(StartRefused, match="cannot be read"):
        check_page(settings(tmp_path, ui_password_file=tmp_path / "none"))
    with pytest.raises(StartRefused, match="cannot be read"):
        check_page(settings(tmp_path, ui_login_file=tmp_path / "none"))
    with socket.create_server((LOOPBACK, 0)) as taken, pytest.raises(StartRefused, match="BONEWATCH_UI_PORT"):
        check_page(load_settings(home=tmp_path, ui_port=taken.getsockname()[1]))


def test_the_command_asks_for_a_password_twice_and_says_what_to_set(tmp_path):
    arguments = ["page-password", "ada", "--role", "operator", "--home", str(tmp_path)]
    done = CliRunner().invoke(app, arguments, input=f"{PASSWORD}\n{PASSWORD}\n")
    assert done.exit_code == 0, done.output
    assert "BONEWATCH_UI_PASSWORD_FILE" in done.output
    assert People(tmp_path / "page-passwords").check("ada", PASSWORD) == Person("ada", "operator")
    assert CliRunner().invoke(app, arguments, input="short\nshort\n").exit_code == 2


def take_out(file, name):
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(name)))
