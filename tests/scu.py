"""A C-STORE SCU that sends bytes as they are, malformed ones too, and remembers what was acknowledged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_preamble
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from dicom_io.network.association import ClosingAE
from tests.peers import LOOPBACK

ABORTED = -1
NOT_NEGOTIATED = -2


@dataclass(frozen=True)
class Message:
    """One C-STORE request: what the command says, and the encoded data set."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes


def message(path: Path) -> Message:
    """Return the request that pushes a Part 10 file, its data set byte for byte."""
    meta = dcmread(path, stop_before_pixels=True, force=True).file_meta
    return Message(
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID, data_set(path)
    )


def data_set(path: Path) -> bytes:
    """Return the encoded data set of a Part 10 file: everything after the file meta information (PS3.10 7.1)."""
    buffer = DicomBytesIO(path.read_bytes())
    read_preamble(buffer, force=False)
    start = buffer.tell()
    # (0002,0000) UL, 4 bytes: the length of the group that follows it.
    buffer.seek(start + 8)
    length = int.from_bytes(buffer.read(4), "little")
    return path.read_bytes()[start + 12 + length :]


def associate(
    port: int, messages: Iterable[Message], called: str = "BONEWATCH", calling: str = "TESTSCU"
) -> Association:
    """Open an association for these messages; whether it is established is the caller's to see."""
    ae = ClosingAE(ae_title="TESTSCU")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    wanted = {(each.sop_class_uid, each.transfer_syntax_uid) for each in messages}
    return ae.associate(LOOPBACK, port, [build_context(*pair) for pair in sorted(wanted)], ae_title=called)


def store(assoc: Association, each: Message) -> int:
    """Send one message and return the status, ABORTED or NOT_NEGOTIATED."""
    if not assoc.is_established:
        return ABORTED
    contexts = [
        context.context_id
        for context in assoc.accepted_contexts
        if context.abstract_syntax == each.sop_class_uid and context.transfer_syntax == [each.transfer_syntax_uid]
    ]
    if not contexts:
        return NOT_NEGOTIATED
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = each.sop_class_uid
    request.AffectedSOPInstanceUID = each.sop_instance_uid
    request.Priority = 0
    request.DataSet = BytesIO(each.data_set)
    # As pynetdicom's own send_c_store does, but with bytes that no data set of pydicom would hold.
    assoc._reactor_checkpoint.clear()
    try:
        assoc.dimse.send_msg(request, contexts[0])
        _, answer = assoc.dimse.get_msg(block=True)
    finally:
        assoc._reactor_checkpoint.set()
    return ABORTED if answer is None or answer.Status is None else int(answer.Status)


def push(port: int, messages: Iterable[Message]) -> list[int]:
    """Send messages on one association and return their statuses."""
    messages = list(messages)
    assoc = associate(port, messages)
    try:
        return [store(assoc, each) for each in messages]
    finally:
        end(assoc)


def end(assoc: Association) -> None:
    """Release an association that still stands, and close its socket, which pynetdicom may leave open."""
    if assoc.is_established:
        assoc.release()
    assoc.ae.close_socket()


def rename(ds: Dataset, suffix: str) -> Dataset:
    """Give an instance another study, series and instance UID, and the patient another id: a new study."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(ds, keyword, f"{getattr(ds, keyword)[:50]}.{suffix}")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds
