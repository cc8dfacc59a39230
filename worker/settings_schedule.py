"""The settings of the scheduler: `worker.settings.Settings` inherits them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings


class ScheduleSettings(BaseSettings):
    """How long a scheduler that stands by waits for one that is silent."""

    scheduler_lease_seconds: Annotated[float, Field(ge=1, le=3600, description="seconds, 1 to 3600")] = 15.0
