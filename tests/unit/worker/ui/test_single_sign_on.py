"""Login at an identity provider: who is let in, and every answer that is not believed."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from joserfc.jwk import RSAKey

from tests.identity_provider import SECRET, identity_provider
from worker.errors import StartRefused
from worker.ui.access.people import Person
from worker.ui.access.single_sign_on import LONGEST_LOGIN_SECONDS, LoginRefused, Provider, read_provider

PAGE = "https://bonewatch.example"


@pytest.fixture(scope="module")
def running():
    with identity_provider() as provider:
        yield provider


@pytest.fixture
def site(running, tmp_path):
    """The provider as it is, and our side of it."""
    running.spoiled, running.signs_with = {}, running.key
    running.ends_logins_at = f"{running.address}/logout?from=here"
    running.claims = {"sub": "1", "preferred_username": "reader", "groups": ["radiology"]}
    file = tmp_path / "login.toml"
    file.write_text(running.settings(PAGE))
    return running, Provider(read_provider(file))


def come_back(provider):
    """Return what the browser brings back from the provider, and what its session remembers."""
    address, remembered = provider.begin()
    back = requests.get(address, timeout=10, allow_redirects=False).headers["location"]
    assert back.startswith(f"{PAGE}/login/return?")
    return {name: value for name, (value,) in parse_qs(urlsplit(back).query).items()}, remembered


@pytest.mark.parametrize(
    ("groups", "role"), [(["radiology"], "viewer"), (["radiology", "imaging"], "operator"), ("imaging", "operator")]
)
def test_a_group_becomes_a_role(site, groups, role):
    running, provider = site
    running.claims["groups"] = groups
    assert provider.finish(*come_back(provider)) == Person("reader", role)


@pytest.mark.parametrize("groups", [["kitchen"], [], None, 7 * [{}]])
def test_nobody_without_a_group_is_let_in(site, groups):
    running, provider = site
    running.claims["groups"] = groups
    with pytest.raises(LoginRefused, match="may not look"):
        provider.finish(*come_back(provider))


def test_a_strange_name_is_written_in_plain_letters(site):
    running, provider = site
    running.claims["preferred_username"] = "Zoë\r\nx-bonewatch-role: operator" + 99 * "!"
    name = provider.finish(*come_back(provider)).name
    assert name.startswith("Zo%C3%AB%0D%0Ax-bonewatch-role%3A operator")
    assert len(name) == 64


@pytest.mark.parametrize(
    "spoiled",
    [{"nonce": "another"}, {"aud": "another"}, {"iss": "https://another.example"}, {"exp": 1}, {"azp": "another"}],
)
def test_a_token_for_another_login_is_refused(site, spoiled):
    running, provider = site
    running.spoiled = spoiled
    with pytest.raises(LoginRefused, match="not accepted"):
        provider.finish(*come_back(provider))


def test_a_token_signed_by_somebody_else_is_refused(site):
    running, provider = site
    running.signs_with = RSAKey.generate_key(2048, {"kid": "1"})
    with pytest.raises(LoginRefused, match="not accepted"):
        provider.finish(*come_back(provider))


def test_a_code_is_of_use_once_and_with_its_verifier_only(site):
    _, provider = site
    answer, remembered = come_back(provider)
    provider.finish(answer, remembered)
    with pytest.raises(LoginRefused, match="not accepted"):
        provider.finish(answer, remembered)
    answer, remembered = come_back(provider)
    with pytest.raises(LoginRefused, match="not accepted"):
        provider.finish(answer, {**remembered, "verifier": 64 * "x"})


def test_a_login_that_was_not_begun_here_or_long_ago_is_refused(site):
    _, provider = site
    answer, remembered = come_back(provider)
    for wrong in (None, {**remembered, "state": "x"}, {**remembered, "at": remembered["at"] - LONGEST_LOGIN_SECONDS}):
        with pytest.raises(LoginRefused, match="not begun here"):
            provider.finish(answer, wrong)


def test_what_the_provider_refuses_or_does_not_answer_is_refused(site):
    _, provider = site
    answer, remembered = come_back(provider)
    with pytest.raises(LoginRefused, match="refused"):
        provider.finish({"state": answer["state"], "error": "access_denied"}, remembered)
    away = Provider(provider.settings.model_copy(update={"provider": "http://127.0.0.1:1/"}))
    with pytest.raises(LoginRefused, match="does not answer"):
        away.begin()


def test_a_login_ends_at_the_provider_if_it_says_where(site):
    running, provider = site
    assert provider.farewell() == f"{running.address}/logout?from=here&client_id=bonewatch"
    for nowhere in (None, "", "http://login.example/out", "javascript:alert(1)", "http://[::1/x"):
        running.ends_logins_at = nowhere
        assert Provider(provider.settings).farewell() is None
    assert Provider(provider.settings.model_copy(update={"provider": "http://127.0.0.1:1/"})).farewell() is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('page = "https', 'page = "http', "page"),
        ("client_id", "client", "client_id"),
        ('viewers = ["radiology"]\noperators = ["imaging"]', "", "nobody"),
        ("=", "", "TOML"),
    ],
)
def test_a_wrong_file_is_refused_without_its_secret(running, tmp_path, old, new, words):
    file = tmp_path / "login.toml"
    file.write_text(running.settings(PAGE).replace(old, new))
    with pytest.raises(StartRefused, match=words) as refused:
        read_provider(file)
    assert SECRET not in str(refused.value)
