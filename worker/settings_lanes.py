"""The settings of the lanes: how much archive work a worker takes on before it looks at today's again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings


class LaneSettings(BaseSettings):
    """How large a chunk of archive work is."""

    archive_chunk: Annotated[int, Field(ge=1, le=1000, description="a count of studies")] = 8
    archive_chunk_seconds: Annotated[float, Field(gt=0, le=600, description="seconds, up to 600")] = 5.0
    archive_at_once: Annotated[
        int | None, Field(ge=1, le=64, description="a count of studies; unset for 2, or the model's batch on a GPU")
    ] = None
