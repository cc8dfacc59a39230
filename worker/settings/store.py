"""Settings of the store where it is object storage: `worker.settings.settings.Settings` inherits them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from dicom_io.store.bucket import ObjectStorage

if TYPE_CHECKING:
    from typing import Self

STORE_SECRETS = ("store_key", "store_secret")
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class StoreSettings(BaseSettings):
    """Where the DICOM files are: a folder, or a bucket that several machines reach."""

    home: Path
    store_folder: Annotated[Path | None, Field(description="the folder for DICOM files; <home>/store")] = None
    store_url: Annotated[str | None, Field(description="s3://<bucket>/<prefix>; unset for a folder")] = None
    store_endpoint: Annotated[str | None, Field(description="http(s)://<host>:<port>; unset for Amazon's")] = None
    store_region: Annotated[str | None, Field(description="the region's name")] = None
    store_key: Annotated[SecretStr | None, Field(description="the access key's id")] = None
    store_secret: Annotated[SecretStr | None, Field(description="the access key's secret")] = None
    store_cache_bytes: Annotated[int, Field(ge=64 * 1024**2, description="bytes, 64 MiB at least")] = 10 * 1024**3

    @field_validator("store_url")
    @classmethod
    def _check_store_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("is no address of a bucket")
        return value.rstrip("/")

    @field_validator("store_endpoint")
    @classmethod
    def _check_store_endpoint(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("is no address of a server")
        return value

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        if self.store_url is not None and self.store_folder is not None:
            raise ValueError("BONEWATCH_STORE_URL: is set, and so is BONEWATCH_STORE_FOLDER; set one of them")
        if (self.store_key is None) is not (self.store_secret is None):
            raise ValueError("BONEWATCH_STORE_KEY: and BONEWATCH_STORE_SECRET belong together; set both or none")
        return self

    @property
    def store(self) -> Path:
        """The folder of the store; with object storage the folder of its spool and cache, never one that was a store.

        The cache throws away what the storage holds too: a folder of the same name could hold what it does not.
        """
        if self.store_url is not None:
            return self.home / "store-cache"
        return self.store_folder or self.home / "store"

    def object_storage(self) -> ObjectStorage | None:
        """Return the object storage, where the site uses one."""
        if self.store_url is None:
            return None
        return ObjectStorage(
            url=self.store_url,
            endpoint=self.store_endpoint,
            region=self.store_region,
            key=None if self.store_key is None else self.store_key.get_secret_value(),
            secret=None if self.store_secret is None else self.store_secret.get_secret_value(),
            cache_bytes=self.store_cache_bytes,
        )
