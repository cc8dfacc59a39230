"""The settings of the web page."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings


class PageSettings(BaseSettings):
    """Where the page is, who may look, and how much may be uploaded."""

    ui_host: Annotated[
        str, Field(min_length=1, description="the address of the page; only this machine's own if unset")
    ] = "127.0.0.1"
    ui_port: Annotated[int, Field(ge=1, le=65535, description="a TCP port")] = 8501
    ui_password_file: Annotated[
        Path | None, Field(description="people who may look; bonewatch page-password makes it")
    ] = None
    ui_login_file: Annotated[
        Path | None, Field(description="the identity provider to log in at (TOML; docs/operations.md)")
    ] = None
    ui_login_minutes: Annotated[int, Field(ge=5, le=7 * 24 * 60, description="minutes until one must log in again")] = (
        480
    )
    ui_secure_cookie: Annotated[bool, Field(description="true or false")] = False
    ui_mask_patients: Annotated[bool, Field(description="true or false")] = False
    ui_upload_megabytes: Annotated[int, Field(ge=1, le=1000, description="megabytes a file")] = 100
    ui_uploads: Annotated[int, Field(ge=1, le=200, description="files at a time")] = 20

    @field_validator("ui_password_file", "ui_login_file")
    @classmethod
    def _expand_files(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @property
    def ui_is_local(self) -> bool:
        """Whether only people at this machine reach the page."""
        if self.ui_host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.ui_host).is_loopback
        except ValueError:
            return False
