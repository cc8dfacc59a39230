"""An S3-compatible object storage on this machine: moto's server as a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_io.store.bucket import ObjectStorage
from tests.peers import LOOPBACK, Service, accepts_connections, free_port

BUCKET = "radiographs"


class ObjectServer:
    """A running server with one bucket. It keeps its objects in memory: `freeze` it where it shall be away."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "--host", LOOPBACK, "--port", str(port)]
        self.service = Service("moto", command, folder / "moto.log", dict(os.environ))
        self.storage = ObjectStorage(
            f"s3://{BUCKET}/site", f"http://{LOOPBACK}:{port}", "us-east-1", "test", "test-secret", timeout_seconds=20
        )
        self._port = port

    def start(self) -> None:
        self.service.start(lambda: accepts_connections(self._port), 90)
        self.client().call_s3("create_bucket", Bucket=BUCKET)

    def client(self) -> Any:
        """Return a client of the storage that is not ours."""
        s3fs = pytest.importorskip("s3fs")
        return s3fs.S3FileSystem(
            key="test", secret="test-secret", endpoint_url=self.storage.endpoint, skip_instance_cache=True,
            use_listings_cache=False, client_kwargs={"region_name": "us-east-1"},
        )  # fmt: skip

    def names(self) -> list[str]:
        """Return what the storage holds, relative to the store's root."""
        root = f"{BUCKET}/site"
        return sorted(name.removeprefix(f"{root}/") for name in self.client().find(root))

    def impatient(self) -> ObjectStorage:
        """Return the storage with a short time to wait for answers."""
        return replace(self.storage, timeout_seconds=0.5)

    def settings(self) -> dict[str, str]:
        """Return what bonewatch must be told."""
        return {
            "store_url": self.storage.url,
            "store_endpoint": str(self.storage.endpoint),
            "store_region": "us-east-1",
            "store_key": "test",
            "store_secret": "test-secret",
        }


@contextmanager
def object_server(folder: Path) -> Iterator[ObjectServer]:
    """Run a server for the length of a block."""
    pytest.importorskip("moto")
    server = ObjectServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.service.kill()
