"""A PACS as an archive: asked by C-FIND, it hands over by C-GET or C-MOVE, Study Root (PS3.4 Annex C)."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from pydicom.uid import generate_uid
from pynetdicom import AllStoragePresentationContexts, build_context, build_role, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_io.archive.archive import FoundPage, Receive, RetrieveReceipt, StudyNotFound, StudyQuery
from dicom_io.archive.find import FIND, PENDING, find_questions
from dicom_io.archive.query import find_page, identifier
from dicom_io.errors import PeerBusy, PeerError, PeerRefused, PeerUnreachable
from dicom_io.header.scope import RADIOGRAPH_CLASSES
from dicom_io.network.association import (
    accepted_classes,
    ask,
    open_association,
    require_class,
    require_status,
    time_limit,
)
from dicom_io.network.library_settings import configure_libraries
from dicom_io.network.wire import Bounds, closed, guard
from dicom_io.receive.reception import SUCCESS, arrival_of
from dicom_io.types import Peer
from dicom_io.uids import is_safe_uid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import Dataset
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from dicom_io.types import Destination

Method = Literal["get", "move"]
Announce = Callable[[str, int], AbstractContextManager[None]]
GET = str(StudyRootQueryRetrieveInformationModelGet)
MOVE = str(StudyRootQueryRetrieveInformationModelMove)
MAXIMUM_CONTEXTS = 128
"""Contexts of one association (PS3.8 7.1.1.13)."""
UNKNOWN_MOVE_DESTINATION = 0xA801
# What a radiograph is kept in. Each is offered alone, so that the PACS sends the bytes it has and converts nothing.
KEPT_SYNTAXES = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
)
# Beside radiographs lie reports (88), presentation states (11) and other documents (104): they come next.
BESIDE_RADIOGRAPHS = ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.11.", "1.2.840.10008.5.1.4.1.1.104.")


class MoveDestinationUnknown(PeerRefused):
    """The PACS does not know under our AE title where to send (0xA801)."""

    code = "move_destination_unknown"


@dataclass(frozen=True, slots=True)
class RetrieveRule:
    """How a PACS hands over.

    `total_seconds` bounds one page of a query and one retrieval. `bounds` and `spool` are for what comes by C-GET.
    `announce` is entered for the length of a C-MOVE with its study and message id: our listener believes those alone.
    """

    method: Method
    total_seconds: float
    bounds: Bounds
    spool: Callable[[], BinaryIO]
    announce: Announce


class DimseArchive:
    """A PACS as an archive; implements `dicom_io.archive.archive.Archive`.

    Parameters
    ----------
    pacs : dicom_io.types.Destination
        Whom to call, and as whom. Its timeout bounds the silence between two answers.
    rule : RetrieveRule
        How it hands over.
    """

    def __init__(self, pacs: Destination, rule: RetrieveRule) -> None:
        configure_libraries()
        self._pacs = pacs
        self._rule = rule

    @property
    def name(self) -> str:
        """What the site calls it."""
        return self._pacs.name

    @property
    def source(self) -> str:
        """How its instances come."""
        return self._rule.method

    def find(self, query: StudyQuery, limit: int) -> FoundPage:
        """Return the studies that match, `limit` at most."""
        with find_questions(self._pacs, self._rule.total_seconds) as questions:
            return find_page(questions, query, limit)

    def retrieve(self, study_instance_uid: str, receive: Receive) -> RetrieveReceipt:
        """Bring a study here; see `dicom_io.archive.archive.Archive`."""
        if not is_safe_uid(study_instance_uid):
            raise StudyNotFound(f"{self.name}: what is asked for is not a Study Instance UID")
        gone = StudyNotFound(f"{self.name} has nothing of this study any more")
        try:
            receipt = self._bring(study_instance_uid, receive)
        except MoveDestinationUnknown:
            raise
        except PeerRefused as error:
            # Some answer "unable to process" (0xC000) for a study that they do not have.
            if self._has(study_instance_uid):
                raise
            raise gone from error
        if receipt.completed == 0 and receipt.failed == 0:
            raise gone
        return receipt

    def accepted(self) -> tuple[str, ...]:
        """Return which of C-FIND, C-GET and C-MOVE the PACS accepts."""
        models = {"C-FIND": FIND, "C-GET": GET, "C-MOVE": MOVE}
        with open_association(self._pacs, [build_context(model) for model in models.values()]) as assoc:
            classes = accepted_classes(assoc)
        return tuple(words for words, model in models.items() if model in classes)

    def require_known(self) -> None:
        """Ask by C-MOVE for a study that does not exist, to hear whether the PACS knows where to send.

        Not every PACS says: any other refusal than 0xA801 may be of the study.

        Raises
        ------
        MoveDestinationUnknown
            It does not know our AE title as a destination.
        """
        try:
            self._move(str(generate_uid()))
        except MoveDestinationUnknown:
            raise
        except PeerRefused:
            return

    def _bring(self, study_instance_uid: str, receive: Receive) -> RetrieveReceipt:
        return self._get(study_instance_uid, receive) if self.source == "get" else self._move(study_instance_uid)

    def _has(self, study_instance_uid: str) -> bool:
        """Say whether the PACS still names a study; where it does not say, it may."""
        try:
            with find_questions(self._pacs, self._rule.total_seconds) as questions:
                return bool(questions.studies({"StudyInstanceUID": study_instance_uid}, 1).data_sets)
        except PeerError:
            return True

    def _get(self, study_instance_uid: str, receive: Receive) -> RetrieveReceipt:
        arrivals = _Arrivals(Peer(self._pacs.ae_title, self._pacs.host, self.source), study_instance_uid, receive)
        handlers = [
            (evt.EVT_CONN_OPEN, guard, [self._rule.bounds, self._rule.spool]),
            (evt.EVT_CONN_CLOSE, closed),
            (evt.EVT_C_STORE, arrivals.store_instance),
        ]
        storage = _storage_contexts()
        roles = [build_role(uid, scp_role=True) for uid in sorted({str(each.abstract_syntax) for each in storage})]
        contexts = [build_context(GET), *storage]
        with open_association(self._pacs, contexts, handlers, roles) as assoc:
            require_class(self._pacs, assoc, GET)
            try:
                receipt = self._await(assoc, "C-GET", assoc.send_c_get, _study(study_instance_uid), GET)
            except (PeerBusy, PeerRefused):
                # A PACS that could send nothing answers with a failure, even if it was we who refused everything.
                if not arrivals.refused:
                    raise
                receipt = RetrieveReceipt(0)
        return arrivals.receipt(receipt)

    def _move(self, study_instance_uid: str) -> RetrieveReceipt:
        ours, message_id = self._pacs.calling_ae_title, random.randint(1, 0xFFFF)  # noqa: S311 - no secret hangs on it alone
        with open_association(self._pacs, [build_context(MOVE)]) as assoc:
            require_class(self._pacs, assoc, MOVE)
            with self._rule.announce(study_instance_uid, message_id):
                asked = (_study(study_instance_uid), ours, MOVE, message_id)
                return self._await(assoc, "C-MOVE", assoc.send_c_move, *asked)

    def _await(self, assoc: Association, request: str, send: Callable[..., Any], *arguments: Any) -> RetrieveReceipt:
        """Read the answers up to the last one (PS3.4 C.4.2.1.5, C.4.3.1.4)."""
        who = f"{self.name} ({self._pacs.ae_title})"
        with time_limit(self._pacs, assoc, self._rule.total_seconds):
            answers: Iterator[tuple[Dataset, Dataset | None]] = ask(self._pacs, send, *arguments)
            last = next((answer for answer, _ in answers if answer.get("Status") not in PENDING), None)
            if last is None or last.get("Status") is None:
                raise PeerUnreachable(f"{who} broke off its {request}")
        if last.get("Status") == UNKNOWN_MOVE_DESTINATION:
            raise MoveDestinationUnknown(
                f"{who} does not know where to send what {self._pacs.calling_ae_title} asks for (0xA801)"
            )
        status = require_status(self._pacs, last, request)
        completed = _count(last, "NumberOfCompletedSuboperations") + _count(last, "NumberOfWarningSuboperations")
        failed = _count(last, "NumberOfFailedSuboperations")
        reason = f"{who} could not send {failed} of {completed + failed} instances (0x{status:04X})" if failed else None
        return RetrieveReceipt(completed, failed, reason)


class _Arrivals:
    """What comes on the association of a C-GET, for one study."""

    def __init__(self, peer: Peer, study_instance_uid: str, receive: Receive) -> None:
        self._peer = peer
        self._study_instance_uid = study_instance_uid
        self._receive = receive
        self._taken: set[str] = set()
        self._refused: dict[str, int] = {}

    def store_instance(self, event: Any) -> int:
        """Answer a C-STORE request (handler of EVT_C_STORE)."""
        arrival = arrival_of(event, self._peer, self._study_instance_uid)
        status = self._receive(arrival)
        if status == SUCCESS:
            self._taken.add(arrival.sop_instance_uid)
        else:
            self._refused[arrival.sop_instance_uid] = status
        return status

    @property
    def refused(self) -> dict[str, int]:
        """The instances that were refused and did not come again, with the status."""
        return {uid: status for uid, status in self._refused.items() if uid not in self._taken}

    def receipt(self, said: RetrieveReceipt) -> RetrieveReceipt:
        """Return what is here, whatever the PACS counts, which may send an instance twice."""
        refused = self.refused
        if not refused:
            return RetrieveReceipt(len(self._taken), said.failed, said.reason)
        statuses = ", ".join(f"0x{status:04X}" for status in sorted(set(refused.values())))
        words = f"{len(refused)} of {len(refused) + len(self._taken)} instances were refused here ({statuses})"
        return RetrieveReceipt(len(self._taken), max(said.failed, len(refused)), words)


def _study(study_instance_uid: str) -> Dataset:
    return identifier("STUDY", {"StudyInstanceUID": study_instance_uid})


def _storage_contexts() -> list[PresentationContext]:
    """Offer radiographs in each encoding apart, and as many other classes as an association has room for."""
    contexts = [build_context(uid, syntax) for uid in sorted(RADIOGRAPH_CLASSES) for syntax in KEPT_SYNTAXES]
    others = [str(each.abstract_syntax) for each in AllStoragePresentationContexts]
    others = [uid for uid in others if uid not in RADIOGRAPH_CLASSES]
    others.sort(key=lambda uid: not uid.startswith(BESIDE_RADIOGRAPHS))
    # DCMTK turns an association with a context of more than some dozens of transfer syntaxes away as a whole.
    contexts += [build_context(uid, list(KEPT_SYNTAXES)) for uid in others]
    return contexts[: MAXIMUM_CONTEXTS - 1]


def _count(answer: Dataset, keyword: str) -> int:
    value = answer.get(keyword)
    return value if isinstance(value, int) else 0
