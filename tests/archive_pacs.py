"""A PACS on loopback that answers queries and retrievals as it is told, well or badly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_io.archive.query_retrieve import DimseArchive, RetrieveRule
from dicom_io.network.wire import Bounds
from dicom_io.receive.reception import Reception
from dicom_io.store.folder import InstanceStore
from dicom_io.types import Destination
from tests.builders import build_cr, uid
from tests.fakes import FakeIntake
from tests.peers import LOOPBACK

STUDY = uid("study")
Handler = Callable[[Any], Iterator[Any]]
BOUNDS = Bounds(131_072, 1 << 24, 60, 60)


@contextmanager
def pacs(**handlers: Handler) -> Iterator[Destination]:
    """Run it with handlers of find, get and move; what has none is not accepted."""
    models = {
        "find": (StudyRootQueryRetrieveInformationModelFind, evt.EVT_C_FIND),
        "get": (StudyRootQueryRetrieveInformationModelGet, evt.EVT_C_GET),
        "move": (StudyRootQueryRetrieveInformationModelMove, evt.EVT_C_MOVE),
    }
    ae = AE(ae_title="PACS")
    for name in handlers:
        ae.add_supported_context(models[name][0])
    for context in StoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, scu_role=True, scp_role=True)
    bound = [(models[name][1], handler) for name, handler in handlers.items()]
    server = ae.start_server((LOOPBACK, 0), block=False, evt_handlers=bound)
    try:
        yield Destination("past", "PACS", LOOPBACK, server.socket.getsockname()[1], "BONEWATCH", timeout_seconds=30)
    finally:
        server.shutdown()


class FakeReception:
    """Our reception with a fake intake, and archives that hand over to it."""

    def __init__(self, folder: Path) -> None:
        self.store = InstanceStore(folder / "store")
        self.intake = FakeIntake()
        self.receive = Reception(self.store, self.intake).receive
        self.announced: list[tuple[str, int]] = []

    def archive(self, destination: Destination, method: Any = "get", **changes: Any) -> DimseArchive:
        rule = RetrieveRule(method, 120, BOUNDS, self.store.spool, self._announce)
        return DimseArchive(destination, replace(rule, **changes))

    @contextmanager
    def _announce(self, study_instance_uid: str, message_id: int) -> Iterator[None]:
        self.announced.append((study_instance_uid, message_id))
        yield


def answer(study: str = STUDY, **values: str) -> Dataset:
    """Return an answer to a query for studies or series."""
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    for keyword, value in {"StudyInstanceUID": study, **values}.items():
        setattr(ds, keyword, value)
    return ds


def images(count: int, study: str = "study") -> list[Dataset]:
    """Return images of one study."""
    return [build_cr(study=study, instance=f"{study} image {number}") for number in range(count)]
