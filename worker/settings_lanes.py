"""The settings of the archive lane: how much of it comes between today's work, and what it sends to the PACS."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class LaneSettings(BaseSettings):
    """How large a chunk of archive work is, and when it makes a report."""

    archive_chunk: Annotated[int, Field(ge=1, le=1000, description="a count of studies")] = 8
    archive_chunk_seconds: Annotated[float, Field(gt=0, le=600, description="seconds, up to 600")] = 5.0
    archive_at_once: Annotated[
        int | None, Field(ge=1, le=64, description="a count of studies; unset for 2, or the model's batch on a GPU")
    ] = None
    archive_reports: Annotated[Literal["always", "changed", "never"], Field(description="always, changed or never")] = (
        "changed"
    )
