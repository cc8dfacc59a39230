"""The settings of the pictures that go with a report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings

MarkedImages = Literal["always", "findings", "never"]


class CompanionSettings(BaseSettings):
    """Which pictures a PACS gets beside the report. None unless a site asks: each is one more object for ever."""

    marked_image: Annotated[MarkedImages, Field(description="always, findings or never")] = "never"
    presentation_state: Annotated[bool, Field(description="true or false")] = False
    heat_map: Annotated[bool, Field(description="true or false")] = False
