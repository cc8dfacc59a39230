"""The settings of re-analysis: when, and how much."""

from __future__ import annotations

from datetime import time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from worker.settings.fields import as_list

Source = Literal["store", "archive"]
Count = Annotated[int, Field(ge=1, description="a count")]


class ReanalysisSettings(BaseSettings):
    """When the archive is analysed again, how much of it comes between today's work, and what it sends to the PACS."""

    reanalysis_crontab: Annotated[str | None, Field(description='five fields, as in "0 22 * * *"')] = None
    reanalysis_time_zone: Annotated[str, Field(description="an IANA name, as Europe/Berlin")] = "UTC"
    reanalysis_end: Annotated[time | None, Field(description="a time of day, as 06:00; unset: a day later")] = None
    reanalysis_sources: Annotated[
        tuple[Source, ...], NoDecode, Field(min_length=1, description="store, archive, or both with a comma between")
    ] = ("store",)
    reanalysis_studies_a_night: Annotated[int | None, Field(ge=1, description="a count; unset for no limit")] = None
    reanalysis_live_limit: Annotated[int, Field(ge=0, description="a count")] = 20
    reanalysis_waiting: Count = 200

    reanalysis_queries_a_minute: Annotated[int, Field(ge=1, le=6000, description="a count, up to 6000")] = 60
    reanalysis_retrievals_a_minute: Annotated[int, Field(ge=1, le=6000, description="a count, up to 6000")] = 60
    reanalysis_retrievals_at_once: Annotated[int, Field(ge=1, le=16, description="a count, up to 16")] = 2
    reanalysis_disk_bytes: Annotated[int, Field(ge=1024**2, description="bytes, a mebibyte at least")] = 20 * 1024**3

    archive_reports: Annotated[Literal["always", "changed", "never"], Field(description="always, changed or never")] = (
        "changed"
    )

    @field_validator("reanalysis_sources", mode="before")
    @classmethod
    def _split_sources(cls, value: object) -> object:
        return as_list(value)

    @field_validator("reanalysis_crontab")
    @classmethod
    def _check_crontab(cls, value: str | None) -> str | None:
        # Imported here: Celery takes its time, and most commands and sites need no crontab.
        from worker.settings.night import parse_crontab  # noqa: PLC0415

        if value is not None:
            parse_crontab(value)
        return value

    @field_validator("reanalysis_time_zone")
    @classmethod
    def _check_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is not a time zone that this machine knows") from None
        return value
