"""The settings of reception: what a PACS must know of us, and what we take from it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from dicom_io.receive.listener_settings import AllowedCaller, ListenerSettings
from worker.settings.fields import AeTitle, AllowedCallerSetting, Seconds, as_callers


class ReceptionSettings(BaseSettings):
    """Where we listen, who may push, and how much of it."""

    ae_title: Annotated[AeTitle, Field(description="our AE title, 1 to 16 characters")] = "BONEWATCH"
    dicom_host: Annotated[str, Field(min_length=1, description="the address to listen on")] = "0.0.0.0"  # noqa: S104 - a PACS calls from outside; `unchosen` speaks of who may
    dicom_port: Annotated[int, Field(ge=0, le=65535, description="a TCP port")] = 11112
    require_called_ae_title: Annotated[bool, Field(description="true or false")] = True
    allowed_callers: Annotated[
        tuple[AllowedCallerSetting, ...], NoDecode, Field(description="AE titles, each with @host or without")
    ] = ()
    maximum_associations: Annotated[int, Field(ge=1, le=1000, description="a count")] = 20
    minimum_free_bytes: Annotated[int, Field(ge=0, description="bytes")] = 1024**3
    maximum_instance_bytes: Annotated[int, Field(ge=1024**2, description="bytes, a mebibyte at least")] = 1024**3
    stop_seconds: Annotated[Seconds, Field(description="seconds")] = 20.0

    @field_validator("allowed_callers", mode="before")
    @classmethod
    def _split_callers(cls, value: object) -> object:
        return as_callers(value)

    def listener(self) -> ListenerSettings:
        """Return what the listener takes."""
        return ListenerSettings(
            ae_title=self.ae_title,
            bind_host=self.dicom_host,
            port=self.dicom_port,
            require_called_ae_title=self.require_called_ae_title,
            allowed_callers=tuple(AllowedCaller(each.ae_title, each.host) for each in self.allowed_callers),
            maximum_associations=self.maximum_associations,
            shutdown_seconds=self.stop_seconds,
            minimum_free_bytes=self.minimum_free_bytes,
            maximum_instance_bytes=self.maximum_instance_bytes,
        )
