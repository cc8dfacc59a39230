"""The settings of the archive that re-analysis fetches studies from: a PACS by DIMSE, or a DICOMweb server."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from worker.settings.fields import AeTitle, Port, Seconds, as_objects

ARCHIVE_SECRETS = ("archive_token", "archive_password")


class ArchiveSetting(BaseModel):
    """An archive, as a site writes it: AE title, host and port, or an address."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    ae_title: AeTitle | None = None
    host: str | None = Field(default=None, min_length=1, max_length=253)
    port: Port | None = None
    retrieve: Literal["get", "move"] | None = None
    url: str | None = Field(default=None, max_length=2000)

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        try:
            has_port = parts.port != 0
        except ValueError:
            has_port = False
        if parts.scheme not in ("http", "https") or not (parts.hostname and has_port) or parts.query or parts.fragment:
            raise ValueError("is not an address such as https://pacs.example.org/dicom-web")
        if parts.username is not None or parts.password is not None:
            raise ValueError("holds a password: use BONEWATCH_ARCHIVE_USER and BONEWATCH_ARCHIVE_PASSWORD")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _one_way(self) -> ArchiveSetting:
        dimse = (self.ae_title, self.host, self.port)
        if self.url is None and None in dimse:
            raise ValueError("wants ae_title, host and port, or else url")
        if self.url is not None and any(each is not None for each in (*dimse, self.retrieve)):
            raise ValueError("has url, and with it neither ae_title, host, port nor retrieve")
        return self


class ArchiveSettings(BaseSettings):
    """Where the past lies, and how long we wait for it."""

    archive: Annotated[
        ArchiveSetting | None,
        NoDecode,
        Field(description='{"name": "pacs", "ae_title": "PACS", "host": "10.0.0.5", "port": 104, "retrieve": "get"}'),
    ] = None
    archive_token: Annotated[SecretStr | None, Field(description="a bearer token for DICOMweb")] = None
    archive_user: Annotated[
        str | None, Field(min_length=1, description="a user's name for DICOMweb, where there is no token")
    ] = None
    archive_password: Annotated[SecretStr | None, Field(description="that user's password")] = None
    archive_timeout_seconds: Annotated[Seconds, Field(description="seconds")] = 60.0
    archive_total_seconds: Annotated[Seconds, Field(description="seconds")] = 1800.0

    @field_validator("archive", mode="before")
    @classmethod
    def _parse_archive(cls, value: Any) -> object:
        return as_objects(value)

    @model_validator(mode="after")
    def _consistent_archive(self) -> ArchiveSettings:
        if self.archive is not None and (self.archive_user is None) != (self.archive_password is None):
            raise ValueError("BONEWATCH_ARCHIVE_USER: goes with BONEWATCH_ARCHIVE_PASSWORD; set both or neither")
        return self
