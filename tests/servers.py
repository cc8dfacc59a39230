"""Redis, PostgreSQL and Orthanc on this machine, each with its data in a folder of its own."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.peers import LOOPBACK, Service, accepts_connections, free_port, program, run


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis without persistence and yield its URL."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--port", str(port), "--bind", LOOPBACK, "--save", "", "--appendonly", "no", "--dir", str(folder)]
    service = Service("redis-server", [program("redis-server"), *options], folder / "redis.log")
    service.start(lambda: accepts_connections(port))
    try:
        yield f"redis://{LOOPBACK}:{port}/0"
    finally:
        service.stop()


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a fresh PostgreSQL cluster and yield the URL of its empty database.

    PostgreSQL refuses to run as root: it then runs as the user `postgres`, in a folder that this user may enter.
    """
    initdb, postgres = program("initdb"), program("postgres")
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="bonewatch-postgres-"))
    try:
        if user is not None:
            shutil.chown(folder, user, user)
        data, port = folder / "data", free_port()
        options = ["-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        groups = None if user is None else []
        subprocess.run(
            [initdb, "-D", str(data), *options],
            check=True,
            capture_output=True,
            cwd=folder,
            user=user,
            group=user,
            extra_groups=groups,
        )
        # Nothing here must outlive a power cut, so nothing waits for the disk.
        options = ["-D", str(data), "-p", str(port), "-h", LOOPBACK, "-k", "", "-F"]
        service = Service("postgres", [postgres, *options], folder / "postgres.log", user=user)
        ready = ["-h", LOOPBACK, "-p", port, "-U", "postgres"]
        service.start(lambda: run("pg_isready", *ready, expect=None).returncode == 0)
        try:
            yield f"postgresql+pg8000://postgres@{LOOPBACK}:{port}/postgres"
        finally:
            service.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


DICOMWEB_PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


class Orthanc:
    """A real Orthanc as the PACS: it holds studies, pushes them to us, receives our reports and commits them."""

    ae_title = "ORTHANC"

    def __init__(
        self,
        folder: Path,
        bonewatch_port: int,
        *,
        bonewatch_host: str = LOOPBACK,
        allow_commitment: bool = True,
        dicomweb: bool = False,
    ) -> None:
        self.folder = folder
        self._plugins = [DICOMWEB_PLUGIN] if dicomweb else []
        self.dicom_port = free_port()
        self.http_port = free_port()
        self._bonewatch = {
            "AET": "BONEWATCH",
            "Host": bonewatch_host,
            "Port": bonewatch_port,
            "AllowStorageCommitment": allow_commitment,
        }
        self._service: Service | None = None

    def start(self) -> None:
        """Start it on the data that it has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration(), indent=1))
        command = [program("Orthanc"), "--verbose", str(configuration)]
        self._service = Service("Orthanc", command, self.folder / "orthanc.log")
        self._service.start(lambda: self._answers() and accepts_connections(self.dicom_port))

    def _answers(self) -> bool:
        # It takes connections before it can answer on them, and resets those.
        try:
            return bool(self.rest("GET", "/system"))
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        """Stop it at once: nobody needs its data any more, and a clean stop takes seconds."""
        if self._service is not None:
            self._service.kill()
            self._service = None

    def destination(self, name: str = "pacs", confirm: str = "commitment") -> dict[str, Any]:
        """Return what bonewatch must know to send its reports here."""
        return {
            "name": name, "ae_title": self.ae_title, "host": LOOPBACK, "port": self.dicom_port, "confirm": confirm,
        }  # fmt: skip

    @property
    def dicomweb_url(self) -> str:
        """Where its DICOMweb plugin answers."""
        return f"http://{LOOPBACK}:{self.http_port}/dicom-web"

    def upload(self, path: Path) -> str:
        """Put one DICOM file into it, as an archive's importer would, and return Orthanc's name for the instance."""
        return str(self.rest("POST", "/instances", path.read_bytes())["ID"])

    def push_everything(self) -> None:
        """Let it send all that it holds to bonewatch over C-STORE, as a PACS does; returns when the last is sent."""
        order = {"Resources": self.rest("GET", "/studies"), "Synchronous": True}
        answer = self.rest("POST", "/modalities/bonewatch/store", order)
        assert answer["FailedInstancesCount"] == 0, answer

    def studies(self) -> dict[str, str]:
        """Return Orthanc's name of each study by StudyInstanceUID."""
        return {
            study["MainDicomTags"]["StudyInstanceUID"]: study["ID"] for study in self.rest("GET", "/studies?expand")
        }

    def instances(self, modality: str | None = None) -> list[str]:
        """Return Orthanc's names of the instances, of one modality where that is given."""
        return [
            instance
            for series in self.rest("GET", "/series?expand")
            if modality in (None, series["MainDicomTags"].get("Modality"))
            for instance in series["Instances"]
        ]

    def find(self, sop_instance_uid: str) -> str:
        """Return Orthanc's name of the instance with this UID."""
        (found,) = self.rest("POST", "/tools/lookup", sop_instance_uid.encode())
        return str(found["ID"])

    def study_of(self, instance: str) -> str:
        """Return the StudyInstanceUID of an instance, as Orthanc files it."""
        return str(self.rest("GET", f"/instances/{instance}/study")["MainDicomTags"]["StudyInstanceUID"])

    def download(self, instance: str, folder: Path) -> Path:
        """Save one instance as a file and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{instance}.dcm"
        path.write_bytes(self.rest("GET", f"/instances/{instance}/file"))
        return path

    def preview(self, instance: str) -> NDArray[np.uint8]:
        """Return an instance as it shows it: (rows, columns) or (rows, columns, red green blue)."""
        with Image.open(io.BytesIO(self.rest("GET", f"/instances/{instance}/preview"))) as picture:
            return np.asarray(picture)

    def rest(self, method: str, path: str, body: object = None) -> Any:
        """Call its REST interface: bytes go and come as they are, everything else as JSON."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(LOOPBACK, self.http_port, timeout=120)
        try:
            connection.request(method, path, body=data)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        assert response.status == 200, f"Orthanc answered {response.status} to {method} {path}: {content[:500]!r}"
        is_json = (response.getheader("Content-Type") or "").startswith("application/json")
        return json.loads(content) if is_json else content

    def _configuration(self) -> dict[str, Any]:
        return {
            "Name": "bonewatch tests",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "index"),
            "Plugins": self._plugins,
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "HttpPort": self.http_port,
            "AuthenticationEnabled": False,
            "RemoteAccessAllowed": False,
            "OverwriteInstances": False,
            "DicomModalities": {"bonewatch": self._bonewatch},
            "JobsHistorySize": 50,
            "ConcurrentJobs": 2,
            "SaveJobs": False,
            "StableAge": 2,
            "HttpsVerifyPeers": False,
        }


@contextmanager
def orthanc(
    folder: Path, bonewatch_port: int, *, bonewatch_host: str = LOOPBACK, dicomweb: bool = False
) -> Iterator[Orthanc]:
    """Run an Orthanc that knows bonewatch at this port, and yield it."""
    server = Orthanc(folder, bonewatch_port, bonewatch_host=bonewatch_host, dicomweb=dicomweb)
    server.start()
    try:
        yield server
    finally:
        server.stop()
