"""A listener on loopback with a store in a temporary folder and a fake intake, and peers that push to it."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification

from dicom_io.header.header import read_file_meta, read_header
from dicom_io.receive.listener import Listener, ListenerSettings
from dicom_io.store.folder import InstanceStore
from dicom_io.types import StoredFile
from tests.builders import part10_bytes
from tests.fakes import FakeIntake
from tests.scu import Message, push

LITTLE = "1.2.840.10008.1.2.1"
SETTINGS = ListenerSettings(bind_host="127.0.0.1", port=0, minimum_free_bytes=0, shutdown_seconds=5)


@dataclass
class Listening:
    """A running listener and everything a test asks about."""

    listener: Listener
    store: InstanceStore
    intake: FakeIntake

    @property
    def port(self) -> int:
        return self.listener.port

    def push(self, *messages: Message) -> list[int]:
        return push(self.port, messages)

    def files(self, folder: str = "instances") -> list[Path]:
        return sorted(path for path in (self.store.root / folder).rglob("*") if path.is_file())

    def data_set(self, stored: StoredFile) -> bytes:
        with self.store.path(stored.path).open("rb") as stream:
            read_file_meta(stream)
            return stream.read()

    @property
    def only_rejection(self) -> tuple[str, int | None, str | None]:
        (rejection,) = self.intake.rejections
        return rejection.code, rejection.status, rejection.sop_instance_uid


@contextmanager
def listening(
    tmp_path: Path, intake: FakeIntake | None = None, store: InstanceStore | None = None, **settings: Any
) -> Iterator[Listening]:
    """Run a listener for the length of a block."""
    store = store or InstanceStore(tmp_path / "store")
    intake = intake or FakeIntake()
    with Listener(dataclasses.replace(SETTINGS, **settings), store, intake) as listener:
        yield Listening(listener, store, intake)


def associate(
    port: int,
    contexts: Iterable[tuple[str, Any]] = ((Verification, LITTLE),),
    calling: str = "PACS",
    called: str = "BONEWATCH",
    **options: Any,
) -> Association:
    """Ask for an association; contexts are abstract syntaxes with their transfer syntaxes."""
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    for abstract_syntax, transfer_syntaxes in contexts:
        ae.add_requested_context(abstract_syntax, transfer_syntaxes)
    return ae.associate("127.0.0.1", port, ae_title=called, **options)


def request_for(ds: Dataset) -> Message:
    """Return the C-STORE request that pushes a data set, encoded as its file meta information says."""
    return request_for_part10(part10_bytes(ds))


def request_for_part10(part10: bytes) -> Message:
    """Return the C-STORE request that pushes a file's data set byte for byte."""
    stream = io.BytesIO(part10)
    header = read_header(stream)
    stream.seek(0)
    read_file_meta(stream)
    return Message(header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid, stream.read())
