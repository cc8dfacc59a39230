"""Sending to a PACS and asking it about what it holds: C-STORE, C-ECHO and C-FIND as SCU (PS3.4 Annexes A, B, C)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicom_io.errors import HeaderError, PeerRefused, PeerUnreachable, StoreError
from dicom_io.network.association import (
    NothingAccepted,
    accepted_classes,
    ask,
    open_association,
    require_class,
    require_status,
)
from dicom_io.types import Destination, ReportReference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

REPORT_CLASSES = (str(Comprehensive3DSRStorage), str(ComprehensiveSRStorage))
"""The report's SOP classes, the preferred one first."""
CAPTURE_CLASS = str(SecondaryCaptureImageStorage)
PRESENTATION_CLASS = str(GrayscaleSoftcopyPresentationStateStorage)
COMPANION_CLASSES = (CAPTURE_CLASS, PRESENTATION_CLASS)
"""The SOP classes of marked images and of presentation states."""
SOP_CLASS_NOT_SUPPORTED = 0x0122
MAXIMUM_MATCHES = 100
"""Answers to a question about one instance after which a peer that ignores the keys is not listened to any longer."""
HEADER_TAGS = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
WARNINGS = {
    0xB000: "it changed data elements",
    0xB006: "it discarded data elements",
    0xB007: "it says that the data set does not match the SOP class",
}


@dataclass(frozen=True, slots=True)
class SendReceipt:
    """What a PACS took: the object as it was stored, the status it answered, and its warning in words, if any."""

    reference: ReportReference
    status: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class _Part10:
    """A file that is to be sent and what is needed to negotiate for it."""

    path: Path
    reference: ReportReference
    transfer_syntax_uid: str


def send(destination: Destination, paths: Sequence[Path]) -> tuple[SendReceipt, ...]:
    """Store Part 10 files at a destination, all on one association.

    Each data set travels byte for byte as it lies in its file. Only where the peer accepts nothing but Implicit VR
    Little Endian, DICOM's default that everyone must take (PS3.5 10.1), an uncompressed one is encoded in that.

    Parameters
    ----------
    destination : dicom_io.types.Destination
        The PACS.
    paths : sequence of pathlib.Path
        Part 10 files. None: nothing is sent and nobody is called.

    Returns
    -------
    tuple of SendReceipt
        One for each path, in order.

    Raises
    ------
    dicom_io.errors.PeerUnreachable, dicom_io.errors.PeerBusy, dicom_io.errors.PeerRefused
        At the first file that is not stored; those before it may well be. Sending again does no harm.
    dicom_io.errors.StoreError
        When a file cannot be read.
    """
    files = [_read_part10(path) for path in paths]
    if not files:
        return ()
    with open_association(destination, _contexts(files)) as assoc:
        return tuple(_store(destination, assoc, file) for file in files)


def send_report(destination: Destination, report: Path, fallback: Callable[[], Path]) -> SendReceipt:
    """Store a Comprehensive 3D SR, or its Comprehensive SR form where the PACS does not take the first.

    Both classes are offered on one association and the PACS's answer decides; a C-STORE answered with "SOP class not
    supported" (0x0122) counts as such an answer.

    Parameters
    ----------
    destination : dicom_io.types.Destination
        The PACS.
    report : pathlib.Path
        The report as Comprehensive 3D SR.
    fallback : callable
        Called without arguments, only when needed; makes the Comprehensive SR form and returns its path.

    Returns
    -------
    SendReceipt
        Its reference names the form that was stored.

    Raises
    ------
    dicom_io.errors.PeerUnreachable, dicom_io.errors.PeerBusy, dicom_io.errors.PeerRefused
        When neither form is stored.
    dicom_io.errors.StoreError
        When a file cannot be read.
    """
    file = _read_part10(report)
    syntaxes = _syntaxes(file.transfer_syntax_uid)
    offered = [build_context(uid, syntax) for uid in REPORT_CLASSES for syntax in syntaxes]
    with open_association(destination, offered) as assoc:
        accepted = accepted_classes(assoc)
        if file.reference.sop_class_uid in accepted:
            answer = _c_store(destination, assoc, file)
            if answer.get("Status") != SOP_CLASS_NOT_SUPPORTED or ComprehensiveSRStorage not in accepted:
                return _receipt(destination, file, answer)
        return _store(destination, assoc, _read_part10(fallback()))


def echo(destination: Destination) -> float:
    """Verify that a destination answers (C-ECHO, PS3.4 Annex A).

    Returns
    -------
    float
        Seconds from calling to the answer.

    Raises
    ------
    dicom_io.errors.PeerUnreachable, dicom_io.errors.PeerBusy, dicom_io.errors.PeerRefused
        When it does not answer with Success.
    """
    start = time.monotonic()
    with open_association(destination, [build_context(Verification)]) as assoc:
        require_class(destination, assoc, Verification)
        require_status(destination, ask(destination, assoc.send_c_echo), "C-ECHO")
        return time.monotonic() - start


def accepted_object_classes(destination: Destination) -> tuple[str, ...]:
    """Ask, without sending anything, which of the SOP classes that we send a destination accepts.

    Those of the report first, the preferred one before the other, then those of its companions.

    Raises
    ------
    dicom_io.errors.PeerUnreachable, dicom_io.errors.PeerBusy, dicom_io.errors.PeerRefused
        When no association comes about. Accepting no class is an answer, not an error.
    """
    syntaxes = _syntaxes(ExplicitVRLittleEndian)
    offered = [build_context(uid, syntax) for uid in (*REPORT_CLASSES, *COMPANION_CLASSES) for syntax in syntaxes]
    try:
        with open_association(destination, offered) as assoc:
            accepted = accepted_classes(assoc)
    except NothingAccepted:
        return ()
    return tuple(uid for uid in (*REPORT_CLASSES, *COMPANION_CLASSES) if uid in accepted)


def find_instance(destination: Destination, reference: ReportReference) -> bool:
    """Ask whether a destination holds an instance (C-FIND, Study Root, IMAGE level, PS3.4 C.6.2).

    Only an answer that names the very SOP Instance UID counts: some archives ignore keys they do not know.

    Raises
    ------
    dicom_io.errors.PeerUnreachable, dicom_io.errors.PeerBusy, dicom_io.errors.PeerRefused
        When the question is not answered; that says nothing about the instance.
    """
    model = StudyRootQueryRetrieveInformationModelFind
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = reference.study_instance_uid
    query.SeriesInstanceUID = reference.series_instance_uid
    query.SOPInstanceUID = reference.sop_instance_uid
    with open_association(destination, [build_context(model)]) as assoc:
        require_class(destination, assoc, model)
        found, finished = False, False
        for number, (answer, match) in enumerate(ask(destination, assoc.send_c_find, query, model), start=1):
            status = require_status(destination, answer, "C-FIND")
            found |= match is not None and str(match.get("SOPInstanceUID", "")) == reference.sop_instance_uid
            finished = status not in (0xFF00, 0xFF01)
            if number > MAXIMUM_MATCHES:
                assoc.abort()
                raise PeerRefused(f"{destination.name} ({destination.ae_title}) ignores the keys of our C-FIND")
        if not finished:
            raise PeerUnreachable(f"{destination.name} ({destination.ae_title}) broke off its answer to our C-FIND")
        return found


def _read_part10(path: Path) -> _Part10:
    """Read what negotiation needs from the data set itself, not from the file meta information alone."""
    try:
        ds = dcmread(path, stop_before_pixels=True, specific_tags=HEADER_TAGS)
        sop_class, sop_instance, study, series = (str(ds[keyword].value) for keyword in HEADER_TAGS)
        return _Part10(
            path, ReportReference(sop_class, sop_instance, series, study), str(ds.file_meta.TransferSyntaxUID)
        )
    except OSError as error:
        raise StoreError(f"{path.name} cannot be read: {error.strerror}") from error
    except (InvalidDicomError, KeyError, AttributeError, ValueError, TypeError) as error:
        raise HeaderError(f"{path.name} is not a DICOM file that can be sent") from error


def _syntaxes(transfer_syntax_uid: str) -> tuple[str, ...]:
    """Name the transfer syntaxes to offer for a file: its own, and the default one where it can be reached."""
    default = str(ImplicitVRLittleEndian)
    return (transfer_syntax_uid, default) if transfer_syntax_uid == ExplicitVRLittleEndian else (transfer_syntax_uid,)


def _contexts(files: Sequence[_Part10]) -> list[PresentationContext]:
    """Offer each pair of SOP class and transfer syntax apart, so that the peer's answer is about that pair."""
    pairs = {
        (file.reference.sop_class_uid, syntax): None for file in files for syntax in _syntaxes(file.transfer_syntax_uid)
    }
    return [build_context(sop_class, syntax) for sop_class, syntax in pairs]


def _store(destination: Destination, assoc: Association, file: _Part10) -> SendReceipt:
    require_class(destination, assoc, file.reference.sop_class_uid)
    return _receipt(destination, file, _c_store(destination, assoc, file))


def _c_store(destination: Destination, assoc: Association, file: _Part10) -> Dataset:
    accepted = {
        str(context.transfer_syntax[0])
        for context in assoc.accepted_contexts
        if context.abstract_syntax == file.reference.sop_class_uid
    }
    if file.transfer_syntax_uid in accepted:
        return ask(destination, assoc.send_c_store, file.path)
    if ImplicitVRLittleEndian in accepted:
        return ask(destination, assoc.send_c_store, dcmread(file.path))
    name = UID(file.transfer_syntax_uid).name
    raise PeerRefused(f"{destination.name} ({destination.ae_title}) does not accept the transfer syntax {name}")


def _receipt(destination: Destination, file: _Part10, answer: Dataset) -> SendReceipt:
    status = require_status(destination, answer, "C-STORE")
    note = None if status == 0 else WARNINGS.get(status, f"it answered with the warning 0x{status:04X}")
    return SendReceipt(file.reference, status, note)
