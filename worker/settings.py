"""The settings of one site: read once from the environment, frozen, and the only reader of it.

Every field is the variable ``BONEWATCH_<FIELD>``; its description is what an error message says it wants, and
`deploy/env.example` documents each (a test compares the two). Secrets may also be given as a file, by
``BONEWATCH_DATABASE_URL_FILE`` and the like (`SECRETS`), and never appear in a repr, a log or a message.

What a site must choose has no default that pretends to a choice: without destinations reports are kept and sent
nowhere, without allowed callers everybody on the network may push. `Settings.unchosen` lists these in words.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from dicom_io.listener_settings import AllowedCaller, ListenerSettings
from dicom_io.scope import ScopeRule
from dicom_io.types import Destination
from worker.connection_url import parse_database_url
from worker.current_bundle import current_bundle
from worker.errors import SettingsError
from worker.settings_archive import ARCHIVE_SECRETS, ArchiveSettings
from worker.settings_companions import CompanionSettings
from worker.settings_delivery import DeliverySettings
from worker.settings_fields import (
    AeTitle,
    AllowedCallerSetting,
    Seconds,
    as_callers,
    as_words,
    explain,
    misspelled,
    secret_from_file,
)
from worker.settings_lanes import LaneSettings
from worker.settings_page import PageSettings
from worker.settings_reanalysis import ReanalysisSettings
from worker.settings_schedule import ScheduleSettings
from worker.settings_store import STORE_SECRETS, StoreSettings

if TYPE_CHECKING:
    from sqlalchemy import URL

PREFIX = "BONEWATCH_"
SECRETS = ("database_url", "redis_url", *STORE_SECRETS, *ARCHIVE_SECRETS)
UNQUOTED = (*SECRETS, "archive")
"""Fields whose values are in no message: an address may hold a password, though it must not."""

Words = Annotated[tuple[str, ...], NoDecode]


class Settings(
    ArchiveSettings,
    CompanionSettings,
    DeliverySettings,
    LaneSettings,
    PageSettings,
    ReanalysisSettings,
    ScheduleSettings,
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
    home: Annotated[Path, Field(description="the folder that holds everything else")] = Path("~/.bonewatch")
    database_url: Annotated[
        SecretStr | None, Field(description="sqlite:///<path> or postgresql://<user>:<password>@<host>/<database>")
    ] = None
    redis_url: Annotated[
        SecretStr | None, Field(description="redis://<host>:<port>/<number>; unset for the embedded broker")
    ] = None

    # Reception
    ae_title: Annotated[AeTitle, Field(description="our AE title, 1 to 16 characters")] = "BONEWATCH"
    dicom_host: Annotated[str, Field(min_length=1, description="the address to listen on")] = "0.0.0.0"  # noqa: S104 - a PACS calls from outside; `unchosen` speaks of who may
    dicom_port: Annotated[int, Field(ge=0, le=65535, description="a TCP port")] = 11112
    require_called_ae_title: Annotated[bool, Field(description="true or false")] = True
    allowed_callers: Annotated[
        tuple[AllowedCallerSetting, ...], NoDecode, Field(description="AE titles, each with @host or without")
    ] = ()
    maximum_associations: Annotated[int, Field(ge=1, le=1000, description="a count")] = 20
    maximum_pdu: Annotated[int, Field(ge=4096, le=16 * 1024**2, description="bytes")] = 131072
    network_timeout_seconds: Annotated[Seconds, Field(description="seconds")] = 60.0
    acse_timeout_seconds: Annotated[Seconds, Field(description="seconds")] = 30.0
    message_timeout_seconds: Annotated[Seconds, Field(description="seconds")] = 1800.0
    minimum_free_bytes: Annotated[int, Field(ge=0, description="bytes")] = 1024**3
    maximum_instance_bytes: Annotated[int, Field(ge=1024**2, description="bytes, a mebibyte at least")] = 1024**3
    stop_seconds: Annotated[Seconds, Field(description="seconds")] = 20.0

    # What is analysed; unset means the rule's own default (dicom_io.scope.ScopeRule)
    body_parts: Annotated[Words | None, Field(description="BodyPartExamined words, separated by commas")] = None
    modalities: Annotated[Words | None, Field(description="Modality codes, separated by commas")] = None
    accept_unknown_body_part: Annotated[bool | None, Field(description="true or false")] = None
    accept_for_processing: Annotated[bool, Field(description="true or false")] = False
    accept_derived_secondary: Annotated[bool, Field(description="true or false")] = False

    # Studies and jobs
    quiet_seconds: Annotated[Seconds, Field(description="seconds")] = 30.0
    sweep_seconds: Annotated[Seconds, Field(description="seconds")] = 5.0
    requeue_seconds: Annotated[Seconds, Field(description="seconds")] = 10.0
    lease_seconds: Annotated[Seconds, Field(description="seconds")] = 120.0
    maximum_attempts: Annotated[int, Field(ge=1, le=100, description="a count")] = 3

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

    @field_validator("home", "store_folder", "bundle")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        if not str(value).strip() or "\0" in str(value):
            raise ValueError("is not a path")
        return value.expanduser().absolute()

    @field_validator("body_parts", "modalities", mode="before")
    @classmethod
    def _split_words(cls, value: object) -> object:
        return as_words(value)

    @field_validator("allowed_callers", mode="before")
    @classmethod
    def _split_callers(cls, value: object) -> object:
        return as_callers(value)

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

    def listener(self) -> ListenerSettings:
        """Return what the listener takes."""
        return ListenerSettings(
            ae_title=self.ae_title,
            bind_host=self.dicom_host,
            port=self.dicom_port,
            require_called_ae_title=self.require_called_ae_title,
            allowed_callers=tuple(AllowedCaller(each.ae_title, each.host) for each in self.allowed_callers),
            maximum_associations=self.maximum_associations,
            maximum_pdu=self.maximum_pdu,
            acse_timeout_seconds=self.acse_timeout_seconds,
            network_timeout_seconds=self.network_timeout_seconds,
            message_timeout_seconds=self.message_timeout_seconds,
            shutdown_seconds=self.stop_seconds,
            minimum_free_bytes=self.minimum_free_bytes,
            maximum_instance_bytes=self.maximum_instance_bytes,
        )

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
                timeout_seconds=self.destination_timeout_seconds,
            )
            for each in self.destinations
        )

    def unchosen(self) -> tuple[str, ...]:
        """Return, in words, the choices that only this site can make and has not made."""
        lines = []
        if not self.destinations:
            lines.append("no destination: reports are kept and sent nowhere (BONEWATCH_DESTINATIONS)")
        if not self.allowed_callers:
            lines.append("no list of callers: every AE that reaches the port may push (BONEWATCH_ALLOWED_CALLERS)")
        if self.accept_unknown_body_part is None:
            lines.append(
                "nothing said of images that do not say their body part: they are not analysed "
                "(BONEWATCH_ACCEPT_UNKNOWN_BODY_PART)"
            )
        return tuple(lines)


def _term(body_part: str) -> str:
    # The rule compares terms of PS3.16 Annex L, which have no spaces, however a device writes them.
    return "".join(character for character in body_part if character.isalnum())


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings.

    1. Refuse a variable whose name looks like a misspelled one of ours.
    2. Take secrets from the files that ``BONEWATCH_..._FILE`` names.
    3. Overrides (of command line options) win over the environment, which wins over defaults; None is no override.

    Parameters
    ----------
    **overrides
        Fields by name.

    Raises
    ------
    worker.errors.SettingsError
        One line a problem: the variable, what is wrong with it, what it wants.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    fields = Settings.model_fields
    known = [f"{PREFIX}{name.upper()}" for name in fields]
    known += [f"{PREFIX}{name.upper()}_FILE" for name in SECRETS]
    problems = misspelled((name for name in os.environ if name.startswith(PREFIX)), known)
    for name in SECRETS:
        try:
            secret = secret_from_file(f"{PREFIX}{name.upper()}", os.environ)
        except ValueError as error:
            problems.append(str(error))
        else:
            if secret is not None:
                given.setdefault(name, secret)
    if problems:
        raise SettingsError("\n".join(problems))
    try:
        return Settings(**given)
    except ValidationError as error:
        wants = {name: field.description or "" for name, field in fields.items()}
        lines = [explain(each, PREFIX, wants, UNQUOTED) for each in error.errors(include_url=False)]
        # Without `from`: pydantic's own error holds the values, and one of them may be a password.
        raise SettingsError("\n".join(lines)) from None
