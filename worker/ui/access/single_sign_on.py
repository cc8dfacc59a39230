"""Login at the site's own identity provider: OpenID Connect's code flow (OpenID Connect Core 1.0, 3.1) with PKCE.

The protocol is Authlib's; here stands what of an answer is believed, and who becomes what from its claims.
"""

from __future__ import annotations

import hmac
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.common.security import generate_token
from authlib.common.urls import add_params_to_uri
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization
from joserfc.jws import JWSRegistry
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from worker.errors import StartRefused
from worker.ui.access.people import Person

RETURN_PATH = "/login/return"
TIMEOUT_SECONDS = 10.0
LEEWAY_SECONDS = 60
METADATA_SECONDS = 3600.0
LONGEST_LOGIN_SECONDS = 600.0
LONGEST_NAME = 64
# Signed by the provider's private key: neither unsigned nor with a secret that we hold, too.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def _encrypted(address: str) -> str:
    """Return an address that nobody on the way can read, or raise ValueError."""
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOCAL_NAMES):
        raise ValueError("begins with https://")
    return address


class LoginRefused(Exception):
    """Nobody was let in; the message is for the person who tried."""


class ProviderSettings(BaseModel):
    """The file that BONEWATCH_UI_LOGIN_FILE names (TOML); docs/operations.md shows one."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    provider: str = Field(description="the address of the provider's openid-configuration")
    client_id: str = Field(min_length=1, max_length=512)
    client_secret: SecretStr
    page: str = Field(description="the page's own address, as its visitors enter it")
    label: str = Field(default="Log in with your account", min_length=1, max_length=80)
    name_claim: str = "preferred_username"
    role_claim: str = "groups"
    viewers: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    @field_validator("provider", "page")
    @classmethod
    def _is_encrypted(cls, value: str) -> str:
        return _encrypted(value).rstrip("/")


def read_provider(path: Path) -> ProviderSettings:
    """Read the file.

    Raises
    ------
    worker.errors.StartRefused
        It cannot be read, or a line of it is wrong; the message holds no value of the file.
    """
    try:
        with path.open("rb") as file:
            found = ProviderSettings.model_validate(tomllib.load(file))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StartRefused(f"the page's login file {path} cannot be read as TOML") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        # Without `from`: pydantic's own error holds the client's secret.
        raise StartRefused(f"the page's login file {path} is wrong: {wrong}") from None
    if not found.viewers and not found.operators:
        raise StartRefused(f"the page's login file {path} lets nobody in: name viewers or operators")
    return found


@dataclass
class Provider:
    """The identity provider, as the page's door asks it. Its calls block: run them in a thread."""

    settings: ProviderSettings
    clock: Callable[[], float] = time.time
    _metadata: tuple[float, dict[str, Any]] | None = field(default=None, repr=False)

    def begin(self) -> tuple[str, dict[str, Any]]:
        """Return where to send a person who wants in, and what their session has to remember until they are back.

        Raises
        ------
        LoginRefused
            The provider does not answer.
        """
        remembered = {"nonce": generate_token(32), "verifier": generate_token(64), "at": self.clock()}
        with self._session() as session:
            address, state = session.create_authorization_url(
                self._known("authorization_endpoint"),
                nonce=remembered["nonce"],
                code_verifier=remembered["verifier"],
            )
        return str(address), {**remembered, "state": state}

    def finish(self, answer: Mapping[str, str], remembered: object) -> Person:
        """Return who came back from the provider.

        1. The answer belongs to a login that this browser began a moment ago.
        2. The code is changed for an ID token, with the secret and PKCE's verifier.
        3. The token is signed by the provider, for us, for this login, and has not expired.
        4. Its claims give this person a role.

        Raises
        ------
        LoginRefused
            One of these is not so.
        """
        login = self._same_login(answer, remembered)
        try:
            with self._session() as session:
                token = session.fetch_token(
                    self._known("token_endpoint"), code=answer.get("code", ""), code_verifier=login["verifier"]
                )
            claims = self._claims(token, login["nonce"])
        except (AuthlibBaseError, JoseError, ValueError, TypeError, KeyError) as error:
            raise LoginRefused("The login service's answer was not accepted.") from error
        except requests.RequestException as error:
            raise LoginRefused("The login service does not answer.") from error
        return self._person(claims)

    def farewell(self) -> str | None:
        """Return where people end their login at the provider, too; None where it has no such place or does not answer.

        It asks them first, and keeps them there: no way back has to be registered for this
        (OpenID Connect RP-Initiated Logout 1.0, 2).
        """
        try:
            address = _encrypted(self._known("end_session_endpoint"))
        except (LoginRefused, ValueError):
            return None
        return str(add_params_to_uri(address, {"client_id": self.settings.client_id}))

    def _same_login(self, answer: Mapping[str, str], remembered: object) -> dict[str, Any]:
        if not isinstance(remembered, dict):
            raise LoginRefused("This login was not begun here, or too long ago.")
        same = hmac.compare_digest(answer.get("state", "").encode(), str(remembered.get("state")).encode())
        if not same or not 0 <= self.clock() - remembered["at"] <= LONGEST_LOGIN_SECONDS:
            raise LoginRefused("This login was not begun here, or too long ago.")
        if "error" in answer:
            raise LoginRefused("The login service refused.")
        return remembered

    def _claims(self, token: Mapping[str, Any], nonce: str) -> Mapping[str, Any]:
        keys = KeySet.import_key_set(cast("KeySetSerialization", self._get(self._known("jwks_uri"))))
        decoded = jwt.decode(token["id_token"], keys, registry=JWSRegistry(algorithms=list(ALGORITHMS)))
        client = self.settings.client_id
        claims: Mapping[str, Any] = CodeIDToken(
            decoded.claims,
            decoded.header,
            {"iss": {"essential": True, "value": self._known("issuer")}, "aud": {"essential": True, "value": client}},
            {"nonce": nonce, "client_id": client, "access_token": token.get("access_token")},
        )
        claims.validate(leeway=LEEWAY_SECONDS)  # type: ignore[attr-defined]
        return claims

    def _person(self, claims: Mapping[str, Any]) -> Person:
        given = claims.get(self.settings.role_claim)
        groups = {given} if isinstance(given, str) else {each for each in given or () if isinstance(each, str)}
        # A name goes into headers and into SQL: what is not plain ASCII is written as %XX.
        name = quote(str(claims.get(self.settings.name_claim) or claims["sub"]), safe="@+ ")[:LONGEST_NAME]
        if groups & set(self.settings.operators):
            return Person(name, "operator")
        if groups & set(self.settings.viewers):
            return Person(name, "viewer")
        raise LoginRefused("Your account may not look at this page: ask its operator.")

    def _session(self) -> Any:
        return OAuth2Session(
            self.settings.client_id,
            self.settings.client_secret.get_secret_value(),
            scope="openid profile email",
            redirect_uri=self.settings.page + RETURN_PATH,
            code_challenge_method="S256",
            default_timeout=TIMEOUT_SECONDS,
        )

    def _known(self, name: str) -> str:
        """Return a fact of the provider's metadata (OpenID Connect Discovery 1.0, 3), asked for once an hour."""
        if self._metadata is None or self.clock() - self._metadata[0] > METADATA_SECONDS:
            self._metadata = (self.clock(), self._get(self.settings.provider))
        value = self._metadata[1].get(name)
        if not isinstance(value, str):
            raise LoginRefused(f"The login service does not tell its {name}.")
        return value

    def _get(self, address: str) -> dict[str, Any]:
        try:
            response = requests.get(address, timeout=TIMEOUT_SECONDS)
            response.raise_for_status()
            found = response.json()
        except requests.RequestException as error:
            raise LoginRefused("The login service does not answer.") from error
        if not isinstance(found, dict):
            raise LoginRefused("The login service's answer was not accepted.")
        return found
