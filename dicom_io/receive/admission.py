"""Who may associate with us and for what: AE titles, hosts, SOP classes, transfer syntaxes (PS3.8 7.1, PS3.7 D)."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import structlog
from pydicom.uid import UID_dictionary
from pynetdicom import AllStoragePresentationContexts, evt
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification, uid_to_service_class

from dicom_io.network.incident import incident
from dicom_io.network.wire import address_of, caller_fields, is_from_here, printable
from dicom_io.receive.intake import Intake, IntakeUnavailable
from dicom_io.receive.listener_settings import ListenerSettings
from dicom_io.types import Peer, Refusal

log = structlog.get_logger()

_DICOM_ROOT = "1.2.840.10008."
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_STORAGE_SERVICE_CLASS = "1.2.840.10008.4.2"
_KNOWN_STORAGE = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)

# Result, source and reason of A-ASSOCIATE-RJ (PS3.8 Table 9-21).
_CALLING_AE_NOT_RECOGNISED = (1, 1, 3)
_CALLED_AE_NOT_RECOGNISED = (1, 1, 7)
_NO_REASON_GIVEN = (2, 1, 1)
_LOCAL_LIMIT_EXCEEDED = 2


def _transfer_syntaxes() -> tuple[str, ...]:
    """Return every transfer syntax that pydicom knows, those first that cost no quality.

    When a context offers several, the first of ours that is among them is taken. An archive that holds a lossless image
    must not be led to compress it lossily for us: so uncompressed first, lossless next, the rest last. Two encodings
    are for media and mail, not for associations (1.2.840.10008.1.2.6.x).
    """
    first = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
    known = {
        uid: entry[0]
        for uid, entry in UID_dictionary.items()
        if entry[1] == "Transfer Syntax" and not uid.startswith("1.2.840.10008.1.2.6.")
    }
    others = sorted((uid for uid in known if uid not in first), key=lambda uid: "Lossless" not in known[uid])
    return (*first, *others)


TRANSFER_SYNTAXES = _transfer_syntaxes()


@lru_cache(maxsize=4096)
def is_storage_class(uid: str) -> bool:
    """Say whether `uid` names composite objects that can be stored: standard, retired, private or yet unknown.

    Private classes count as storage, for a PACS pushes whole studies and calls the push a failure when one object is
    turned away. What another service owns, such as queries and hanging protocols, does not.
    """
    if uid in _KNOWN_STORAGE or not uid.startswith(_DICOM_ROOT):
        return True
    if uid_to_service_class(uid) is not ServiceClass:
        return False
    name = UID_dictionary.get(uid, ("",))[0]
    about_storage = "Commitment" in name or "Directory" in name
    return uid.startswith(_STORAGE_ROOT) or ("Storage" in name and not about_storage)


def fixed_contexts() -> list[PresentationContext]:
    """Return what we always offer beside storage: Verification and both roles of Storage Commitment.

    A PACS sends its N-EVENT-REPORT on an association of its own, on which it remains the SCP: it proposes that role,
    and we accept (PS3.4 J.3.3, PS3.7 D.3.3.4).
    """
    contexts = []
    for uid in (Verification, StorageCommitmentPushModel):
        context = PresentationContext()
        context.abstract_syntax = uid
        context.transfer_syntax = list(TRANSFER_SYNTAXES[:4])
        contexts.append(context)
    contexts[1].scu_role = contexts[1].scp_role = True
    return contexts


class Throttle:
    """Lets each key through once in an interval, and all keys together not oftener than `maximum` in it.

    Whoever can open a connection can be refused a thousand times a second under as many AE titles. One record tells the
    administrator; a database full of them serves nobody.
    """

    def __init__(self, interval_seconds: float = 60.0, maximum: int = 60) -> None:
        self._interval_seconds = interval_seconds
        self._maximum = maximum
        self._seen: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._lock = threading.Lock()

    def admits(self, *key: str) -> bool:
        """Say whether something with this key may be recorded now, and remember that it was."""
        now = time.monotonic()
        with self._lock:
            while self._seen and now - next(iter(self._seen.values())) >= self._interval_seconds:
                self._seen.popitem(last=False)
            if key in self._seen or len(self._seen) >= self._maximum:
                return False
            self._seen[key] = now
            return True


class Admission:
    """Decides about requested associations and records those that are turned away."""

    def __init__(self, settings: ListenerSettings, intake: Intake, throttle: Throttle | None = None) -> None:
        self._settings = settings
        self._intake = intake
        self._throttle = throttle or Throttle()

    def requested(self, event: Any) -> None:
        """Check AE titles and host, then offer what the peer proposed (handler of EVT_REQUESTED).

        pynetdicom logs and ignores what such a handler raises, which would admit the caller: so nothing may.
        """
        assoc = event.assoc
        try:
            refusal = self._refusal(assoc)
            if refusal is None:
                assoc.acceptor.supported_contexts = fixed_contexts() + _storage_contexts(_proposed(assoc))
        except Exception as error:  # noqa: BLE001 - fail closed, whatever a hostile request made of us
            log.critical("association_check_failed", **incident(error))
            refusal = (_NO_REASON_GIVEN, "the request could not be checked")
        if refusal is not None:
            result, reason = refusal
            assoc.acse.send_reject(*result)
            # On record before `kill`: that waits until the caller has closed the connection, which is for it to do.
            try:
                if self._is_ourselves(assoc):
                    log.info("own_call_refused", reason=reason)
                else:
                    self._record(assoc, "association_refused", reason)
            finally:
                assoc.kill()

    def rejected(self, event: Any) -> None:
        """Record what pynetdicom turned away by itself: too many associations (handler of EVT_REJECTED)."""
        primitive = event.assoc.acceptor.primitive
        if primitive is not None and primitive.diagnostic == _LOCAL_LIMIT_EXCEEDED:
            self._record(event.assoc, "association_limit", "the maximum number of associations is reached")

    def established(self, event: Any) -> None:
        """Record proposed storage that could not be accepted (handler of EVT_ESTABLISHED)."""
        log.info("association_established", **caller_fields(event.assoc))
        for context in event.assoc.rejected_contexts:
            if is_storage_class(str(context.abstract_syntax)):
                self._record(
                    event.assoc,
                    "transfer_syntax_unknown",
                    f"no known transfer syntax was proposed for SOP class {printable_uid(context.abstract_syntax)}",
                )

    def common_extended(self, event: Any) -> dict[str, SOPClassCommonExtendedNegotiation]:
        """Tell pynetdicom that the private and unknown classes it accepted belong to Storage (EVT_SOP_COMMON).

        It looks for the service of a request here first, and would abort the association for a class not in its tables
        (PS3.7 D.3.3.6 is the negotiation that this answer was made for).
        """
        answer = {}
        for uid in {str(context.abstract_syntax) for context in _proposed(event.assoc)}:
            if uid not in _KNOWN_STORAGE and is_storage_class(uid):
                item = SOPClassCommonExtendedNegotiation()
                item.sop_class_uid = uid
                item.service_class_uid = _STORAGE_SERVICE_CLASS
                answer[uid] = item
        return answer

    def _refusal(self, assoc: Any) -> tuple[tuple[int, int, int], str] | None:
        request = assoc.requestor.primitive
        called, calling = str(request.called_ae_title).strip(), str(request.calling_ae_title).strip()
        if self._settings.require_called_ae_title and called != self._settings.ae_title.strip():
            return _CALLED_AE_NOT_RECOGNISED, f"called {printable(called)}, which is not our AE title"
        if not self._settings.admits(calling, address_of(assoc)):
            return _CALLING_AE_NOT_RECOGNISED, "this AE title may not call from this address"
        return None

    def _is_ourselves(self, assoc: Any) -> bool:
        """Say whether it is `bonewatch doctor` on this machine: under our own AE title, which no sender has.

        It is turned away like every caller that is not on the list, and learns from that that we listen.
        """
        calling = str(assoc.requestor.primitive.calling_ae_title).strip()
        return calling == self._settings.ae_title.strip() and is_from_here(assoc)

    def _record(self, assoc: Any, code: str, reason: str) -> None:
        request = assoc.requestor.primitive
        peer = Peer(printable(request.calling_ae_title), address_of(assoc))
        if not self._throttle.admits(code, peer.ae_title, peer.address):
            return
        log.warning(code, reason=reason, ae_title=peer.ae_title, address=peer.address)
        try:
            self._intake.reject(Refusal(code, reason, peer))
        except IntakeUnavailable:
            log.warning("rejection_not_recorded", code=code)


def printable_uid(uid: object) -> str:
    """Return a UID from outside for a message: at most 64 characters, none of them odd."""
    return "".join(each if each.isalnum() or each == "." else "?" for each in str(uid))[:64]


def _proposed(assoc: Any) -> list[PresentationContext]:
    return list(assoc.requestor.primitive.presentation_context_definition_list)


def _storage_contexts(proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Return a supported context for each storage class among those proposed.

    Made for what is asked, not for all there is: pynetdicom copies the whole list for every connection, and no list
    could name the private classes.
    """
    contexts = []
    for uid in sorted({str(context.abstract_syntax) for context in proposed}):
        if is_storage_class(uid):
            context = PresentationContext()
            context.abstract_syntax = uid
            context.transfer_syntax = list(TRANSFER_SYNTAXES)
            contexts.append(context)
    return contexts


def handlers(admission: Admission) -> list[tuple[Any, ...]]:
    """Return the event handlers of `admission` as pynetdicom wants them."""
    return [
        (evt.EVT_REQUESTED, admission.requested),
        (evt.EVT_REJECTED, admission.rejected),
        (evt.EVT_ESTABLISHED, admission.established),
        (evt.EVT_SOP_COMMON, admission.common_extended),
    ]
