"""The settings of reports and of their delivery."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from dicom_io.receive.listener_settings import AllowedCaller
from worker.settings.fields import DestinationSetting, Seconds, as_list_of_objects

MarkedImages = Literal["always", "findings", "never"]


class DeliverySettings(BaseSettings):
    """Where reports go, and how patient we are with who receives them."""

    destinations: Annotated[
        tuple[DestinationSetting, ...],
        NoDecode,
        Field(description='[{"name": "pacs", "ae_title": "PACS", "host": "10.0.0.5", "port": 104}]'),
    ] = ()
    delivery_backoff_seconds: Annotated[Seconds, Field(description="seconds")] = 5.0
    commitment_timeout_seconds: Annotated[Seconds, Field(description="seconds")] = 300.0
    report_out_of_scope: Annotated[bool, Field(description="true or false")] = False
    report_failed: Annotated[bool, Field(description="true or false")] = True
    # Pictures beside the report. None unless a site asks: each is one more object for ever
    marked_image: Annotated[MarkedImages, Field(description="always, findings or never")] = "never"
    presentation_state: Annotated[bool, Field(description="true or false")] = False
    heat_map: Annotated[bool, Field(description="true or false")] = False

    @field_validator("destinations", mode="before")
    @classmethod
    def _parse_destinations(cls, value: object) -> object:
        return as_list_of_objects(value)

    @field_validator("destinations")
    @classmethod
    def _unique_names(cls, value: tuple[DestinationSetting, ...]) -> tuple[DestinationSetting, ...]:
        names = [destination.name for destination in value]
        if len(set(names)) != len(names):
            raise ValueError("has two destinations of the same name")
        return value

    def answerers(self) -> dict[str, tuple[AllowedCaller, ...]]:
        """Return whose storage commitment results are believed, by the name of the destination."""
        return {
            each.name: tuple(AllowedCaller(caller.ae_title, caller.host) for caller in each.answers_from)
            or (AllowedCaller(each.ae_title, each.host),)
            for each in self.destinations
        }
