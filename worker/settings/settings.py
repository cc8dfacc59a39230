"""The settings of one site: read once from file and environment, frozen, and the only reader of both.

Every field is a key of the settings file (`worker.settings.file`) and the variable ``BONEWATCH_<FIELD>``, which wins;
its description is what an error message says it wants, and `worker/settings/template.toml` documents each (a test
compares the two, and `deploy/env.example`). Secrets may also be given as a file, by ``BONEWATCH_DATABASE_URL_FILE`` and
the like (`SECRETS`), and never appear in a repr, a log or a message.

What a site must choose has no default that pretends to a choice: without destinations reports are kept and sent
nowhere, without allowed callers everybody on the network may push. `Settings.unchosen` lists these in words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import EnvSettingsSource, NoDecode, SettingsConfigDict

from dicom_io.header.scope import ScopeRule
from dicom_io.types import Destination
from worker.errors import SettingsError
from worker.settings.archive import ARCHIVE_SECRETS, ArchiveSettings
from worker.settings.choices import CHOICES, Choice
from worker.settings.connection_url import parse_database_url
from worker.settings.current_bundle import current_bundle
from worker.settings.delivery import DeliverySettings
from worker.settings.fields import (
    Seconds,
    as_words,
    explain,
    misspelled,
    secret_from_file,
)
from worker.settings.file import SettingsFile, find_file, settings_path
from worker.settings.page import PageSettings
from worker.settings.reanalysis import ReanalysisSettings
from worker.settings.reception import ReceptionSettings
from worker.settings.store import STORE_SECRETS, StoreSettings

if TYPE_CHECKING:
    from sqlalchemy import URL

PREFIX = "BONEWATCH_"
OPTION = "option"
"""What `read_settings` calls a value that an option of the command line has set."""
SECRETS = ("database_url", "redis_url", *STORE_SECRETS, *ARCHIVE_SECRETS)
UNQUOTED = (*SECRETS, "archive")
"""Fields whose values are in no message: an address may hold a password, though it must not."""

Words = Annotated[tuple[str, ...], NoDecode]


class Settings(
    ArchiveSettings,
    DeliverySettings,
    PageSettings,
    ReanalysisSettings,
    ReceptionSettings,
    StoreSettings,
):
    """Everything a site can choose. Build it with `load_settings`, once, at a process's start."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_ignore_empty=True,
        validate_default=True,
    )

    # Where things are
    config: Annotated[Path | None, Field(description="the settings file; unset for <home>/bonewatch.toml")] = None
    home: Annotated[Path, Field(description="the folder that holds everything else")] = Path("~/.bonewatch")
    database_url: Annotated[
        SecretStr | None, Field(description="sqlite:///<path> or postgresql://<user>:<password>@<host>/<database>")
    ] = None
    redis_url: Annotated[
        SecretStr | None, Field(description="redis://<host>:<port>/<number>; unset for the embedded broker")
    ] = None

    # What is analysed; unset means the rule's own default (dicom_io.header.scope.ScopeRule)
    body_parts: Annotated[Words | None, Field(description="BodyPartExamined words, separated by commas")] = None
    modalities: Annotated[Words | None, Field(description="Modality codes, separated by commas")] = None
    accept_unknown_body_part: Annotated[bool | None, Field(description="true or false")] = None
    accept_for_processing: Annotated[bool, Field(description="true or false")] = False
    accept_derived_secondary: Annotated[bool, Field(description="true or false")] = False

    # Studies and jobs
    quiet_seconds: Annotated[Seconds, Field(description="seconds")] = 30.0
    sweep_seconds: Annotated[Seconds, Field(description="seconds")] = 5.0
    lease_seconds: Annotated[Seconds, Field(description="seconds")] = 120.0

    # The model and the machine
    bundle: Annotated[Path | None, Field(description="a bundle's folder; unset for the promoted or shipped one")] = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:<n>")] = (
        "auto"
    )
    threads: Annotated[int | None, Field(ge=1, le=1024, description="a count; unset for torch's choice")] = None
    analysis_processes: Annotated[int, Field(ge=1, le=256, description="a count")] = 1

    # Logs
    log_format: Annotated[Literal["auto", "json", "console"], Field(description="auto, json or console")] = "auto"
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="DEBUG, INFO, WARNING or ERROR")
    ] = "INFO"

    @field_validator("config", "home", "store_folder", "bundle")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        if not str(value).strip() or "\0" in str(value):
            raise ValueError("is not a path")
        try:
            return value.expanduser().absolute()
        except RuntimeError:
            raise ValueError("begins with ~ and a name that no user of this machine has") from None

    @field_validator("body_parts", "modalities", mode="before")
    @classmethod
    def _split_words(cls, value: object) -> object:
        return as_words(value)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_database_url(value.get_secret_value())
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, value: SecretStr | None) -> SecretStr | None:
        known = ("redis://", "rediss://", "redis+socket://")
        if value is not None and not value.get_secret_value().startswith(known):
            raise ValueError(f"begins with none of {', '.join(known)}")
        return value

    @property
    def run_folder(self) -> Path:
        """The folder for sockets, process ids and the embedded broker's files."""
        return self.home / "run"

    @property
    def uses_embedded_broker(self) -> bool:
        """Whether `bonewatch up` starts a broker of its own."""
        return self.redis_url is None

    def installed_bundle(self) -> Path | None:
        """Return the folder of the bundle to use now: the site's choice, else what was promoted; None: what ships.

        It is asked for at every use, so that a promotion needs no restart.
        """
        return self.bundle or current_bundle(self.home)

    def sqlalchemy_url(self) -> URL:
        """Return the address of the database; its ``str()`` hides the password."""
        if self.database_url is None:
            return parse_database_url(f"sqlite:///{self.home / 'bonewatch.sqlite3'}")
        return parse_database_url(self.database_url.get_secret_value())

    def scope(self) -> ScopeRule:
        """Return which instances are to be analysed: the rule's defaults, and what the site has set."""
        rule = ScopeRule()
        return ScopeRule(
            modalities=rule.modalities if self.modalities is None else frozenset(self.modalities),
            body_parts=rule.body_parts if self.body_parts is None else frozenset(map(_term, self.body_parts)),
            accept_unknown_body_part=bool(self.accept_unknown_body_part),
            accept_for_processing=self.accept_for_processing,
            accept_derived_secondary=self.accept_derived_secondary,
        )

    def destinations_tuple(self) -> tuple[Destination, ...]:
        """Return the destinations as `dicom_io` takes them."""
        return tuple(
            Destination(
                name=each.name,
                ae_title=each.ae_title,
                host=each.host,
                port=each.port,
                calling_ae_title=self.ae_title,
                confirm=each.confirm,
            )
            for each in self.destinations
        )

    def as_environment(self) -> dict[str, str]:
        """Return the variables by which another process has these settings, whatever its file says by then.

        Without the secrets that a variable's file holds: the other process reads that file itself.
        """
        values = self.model_dump(mode="json", exclude_none=True)
        for name in SECRETS:
            secret = getattr(self, name)
            if secret is not None:
                values[name] = secret.get_secret_value()
            if os.environ.get(f"{PREFIX}{name.upper()}_FILE"):
                values.pop(name, None)
        chosen = {name: value for name, value in values.items() if name in {*self.model_fields_set, "home"}}
        chosen["config"] = os.devnull
        text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in chosen.items()}
        return {f"{PREFIX}{name.upper()}": value for name, value in text.items()}

    def open_choices(self) -> tuple[Choice, ...]:
        """Return the choices that only this site can make and has not made."""
        return tuple(choice for name, choice in CHOICES.items() if getattr(self, name) in (None, ()))

    def unchosen(self) -> tuple[str, ...]:
        """Return, in words, the choices that only this site can make and has not made."""
        return tuple(choice.words for choice in self.open_choices())


def _term(body_part: str) -> str:
    # The rule compares terms of PS3.16 Annex L, which have no spaces, however a device writes them.
    return "".join(character for character in body_part if character.isalnum())


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings; see `read_settings`."""
    return read_settings(**overrides)[0]


def read_settings(**overrides: Any) -> tuple[Settings, dict[str, str]]:
    """Read and check the settings, and say what each one was set by.

    1. Refuse a variable whose name looks like a misspelled one of ours.
    2. Find the file: `config`, which is an option or a variable, else the home's own.
    3. Take secrets from the files that ``BONEWATCH_..._FILE`` names.
    4. Overrides (of command line options) win over the environment, which wins over the file, which wins over defaults;
       None is no override.

    Parameters
    ----------
    **overrides
        Fields by name.

    Returns
    -------
    settings : Settings
    set_by : dict of str
        For each field that is not a default: its variable, the file that holds the secret, the settings file, or
        "option".

    Raises
    ------
    worker.errors.SettingsError
        One line a problem: the variable or the key and its file, what is wrong with it, what it wants.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    variables = {name: f"{PREFIX}{name.upper()}" for name in (*Settings.model_fields, *given)}
    known = [*variables.values(), *(f"{variables[name]}_FILE" for name in SECRETS)]
    problems = misspelled((name for name in os.environ if name.startswith(PREFIX)), known)
    environment = EnvSettingsSource(Settings)()
    set_by = dict.fromkeys(given, OPTION)
    set_by = {name: variables[name] for name in environment} | set_by
    for name in SECRETS:
        try:
            secret = secret_from_file(variables[name], f"{variables[name]}_FILE", os.environ)
        except ValueError as error:
            problems.append(str(error))
        else:
            if secret is not None:
                environment[name] = secret
                set_by.setdefault(name, f"{variables[name]}_FILE")
    if problems:
        raise SettingsError("\n".join(problems))
    path, from_file = _read_file({**environment, **given})
    set_by = dict.fromkeys(from_file, str(path)) | set_by
    names = variables | {name: f"{name} in {path}" for name, by in set_by.items() if by == str(path)}
    try:
        # The environment once more, though Settings reads it too: what was named above is what counts.
        settings = Settings(**{**from_file, **environment, **given, "config": path})
    except ValidationError as error:
        wants = {name: field.description or "" for name, field in Settings.model_fields.items()}
        lines = [explain(each, names, wants, UNQUOTED) for each in error.errors(include_url=False)]
        # Without `from`: pydantic's own error holds the values, and one of them may be a password.
        raise SettingsError("\n".join(lines)) from None
    return settings, set_by


def file_to_write(home: Path | None) -> Path:
    """Return the path of the settings file that a site without one is to have: the named one, else the home's."""
    environment = EnvSettingsSource(Settings)()
    return settings_path(environment.get("config"), _home({**environment, **({} if home is None else {"home": home})}))


def _home(given: Mapping[str, Any]) -> Path:
    return Path(given.get("home") or Settings.model_fields["home"].default).expanduser().absolute()


def _read_file(given: Mapping[str, Any]) -> tuple[Path | None, dict[str, Any]]:
    """Find the settings file and return its path and what stands in it."""
    named, home = given.get("config"), _home(given)
    path = find_file(named, home)
    values = SettingsFile(Settings, path, SECRETS)()
    if not named and Path(values.get("home", home)) != home:
        raise SettingsError(
            f"home in {path}: the file that lies in a home cannot name another one; take --home or BONEWATCH_HOME, or "
            "name the file itself with --config"
        )
    return path, values
