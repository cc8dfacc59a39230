"""Opening an association to a remote AE, and what it means when that fails (PS3.8 7.1, PS3.7 Annex D)."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydicom.uid import UID
from pynetdicom import AE, _config, evt

from dicom_io.errors import PeerBusy, PeerRefused, PeerUnreachable
from dicom_io.network.answers import keep_answers
from dicom_io.network.wire import hang_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydicom.dataset import Dataset
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from dicom_io.types import Destination

REJECTED_TRANSIENT = 2
"""Result of an A-ASSOCIATE-RJ that may go differently later (PS3.8 Table 9-21)."""
CALLER_NOT_RECOGNISED = (1, 3)
"""Source and reason of an A-ASSOCIATE-RJ to a calling AE title that the peer does not take (PS3.8 Table 9-21)."""
REJECTION_WORDS = {
    (1, 2): "it does not support our application context",
    (1, 3): "it does not know our AE title",
    (1, 7): "it does not go by that AE title",
    (2, 2): "it does not support our protocol version",
    (3, 1): "it is congested",
    (3, 2): "its limit of associations is reached",
}
"""Reject source and reason (PS3.8 Table 9-21) in words."""
STATUS_WORDS = {
    0x0122: "it does not support the SOP class",
    0x0124: "it does not authorise us",
    0x0210: "it takes it for a second request of the same number",
    0x0211: "it does not know the operation",
    0xA700: "it is out of resources",
    0xA701: "it is out of resources to count the matches",
    0xA702: "it is out of resources to send the instances",
    0xA900: "the identifier or data set does not match the SOP class",
    0xC000: "it is unable to process it",
    0xFE00: "it was cancelled",
}
"""Failure statuses (PS3.7 Annex C; PS3.4 B.2.3, C.4) in words."""
MAXIMUM_TITLE_LENGTH = 16
MAXIMUM_PORT = 65535
MINIMUM_NETWORK_TIMEOUT = 60.0


class NothingAccepted(PeerRefused):
    """The peer took the association, but none of the presentation contexts offered."""


class CallerRefused(PeerRefused):
    """The peer rejected the association for our AE title: it does not know us, or not at this address."""


@contextmanager
def open_association(
    destination: Destination,
    contexts: Sequence[PresentationContext],
    handlers: Sequence[tuple[Any, ...]] = (),
    roles: Sequence[Any] = (),
) -> Iterator[Association]:
    """Associate with a destination; release at the end, or abort when the block fails.

    Parameters
    ----------
    destination : dicom_io.types.Destination
        Whom to call, and under which AE title. Its timeout holds for every step: connecting, negotiating, each answer.
    contexts : sequence of pynetdicom.presentation.PresentationContext
        What to offer, 128 at most (PS3.8 7.1.1.13).
    handlers : sequence of tuple, optional
        pynetdicom event handlers to bind.
    roles : sequence of pynetdicom.pdu_primitives.SCP_SCU_RoleSelectionNegotiation, optional
        Roles to propose where they are not the usual ones (PS3.7 D.3.3.4).

    Yields
    ------
    pynetdicom.association.Association
        Established, with at least one of the contexts accepted.

    Raises
    ------
    dicom_io.errors.PeerUnreachable
        Nobody answers there, or the association broke during negotiation.
    dicom_io.errors.PeerBusy
        The peer rejected the association for the moment.
    dicom_io.errors.PeerRefused
        The peer rejected the association for good, or the destination's settings cannot be called at all;
        `NothingAccepted` where it took the association and none of the contexts.
    """
    if not 1 <= destination.port <= MAXIMUM_PORT:
        raise PeerRefused(f"{destination.name}: {destination.port} is not a TCP port")
    ae = ClosingAE(ae_title=_title(destination, destination.calling_ae_title))
    try:
        assoc = _associate(ae, destination, contexts, handlers, roles)
        if not assoc.is_established:
            raise _failure(destination, assoc)
        try:
            yield assoc
        except (PeerBusy, PeerRefused):
            _release(assoc)  # a refusal is an answer; the association is in order
            raise
        except BaseException:
            assoc.abort()
            raise
        _release(assoc)
    finally:
        ae.close_socket()


@contextmanager
def time_limit(destination: Destination, assoc: Association, seconds: float) -> Iterator[None]:
    """Hang up when a block has taken so many seconds, however busy the peer keeps it.

    Raises
    ------
    dicom_io.errors.PeerUnreachable
        It had not ended by then.
    """
    over = threading.Event()

    def end() -> None:
        over.set()
        hang_up(assoc)
        assoc.dimse.msg_queue.put((None, None))  # what pynetdicom puts there at an A-ABORT: nobody waits for more

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except PeerUnreachable as error:
        if not over.is_set():
            raise
        who = f"{destination.name} ({destination.ae_title})"
        raise PeerUnreachable(f"{who} had not ended within {seconds:g} s what we asked for") from error
    finally:
        timer.cancel()


class ClosingAE(AE):  # type: ignore[misc]  # pynetdicom has no types
    """An AE that closes the socket of its one association: pynetdicom does not when connecting fails."""

    _raw_socket: socket.socket | None = None

    def _create_socket(self, *arguments: Any) -> Any:
        wrapper = super()._create_socket(*arguments)
        self._raw_socket = wrapper.socket
        return wrapper

    def close_socket(self) -> None:
        """Close it, if there is one; closing twice does no harm."""
        if self._raw_socket is not None:
            self._raw_socket.close()


def _release(assoc: Association) -> None:
    if assoc.is_established:
        assoc.release()


def _title(destination: Destination, title: str) -> str:
    """Check an AE title: 1 to 16 characters of ASCII, neither backslash nor control character (PS3.5 6.2, AE)."""
    lawful = title.isascii() and title.isprintable() and "\\" not in title
    if not lawful or not 1 <= len(title.strip()) <= MAXIMUM_TITLE_LENGTH:
        raise PeerRefused(f"{destination.name}: {title!r} is not an AE title")
    return title.strip()


def _associate(
    ae: AE,
    destination: Destination,
    contexts: Sequence[PresentationContext],
    handlers: Sequence[tuple[Any, ...]],
    roles: Sequence[Any],
) -> Association:
    # pynetdicom reads these switches from its module, not from the AE: no patient data in its log, and files sent
    # as they lie on disk instead of decoded and encoded again.
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.STORE_SEND_CHUNKED_DATASET = True
    ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = destination.timeout_seconds
    ae.network_timeout = max(MINIMUM_NETWORK_TIMEOUT, 2 * destination.timeout_seconds)
    try:
        return ae.associate(
            destination.host,
            destination.port,
            contexts=list(contexts),
            ae_title=_title(destination, destination.ae_title),
            evt_handlers=[(evt.EVT_CONN_OPEN, keep_answers), *handlers],
            ext_neg=list(roles),
        )
    except (OSError, UnicodeError) as error:
        raise PeerUnreachable(f"{destination.name}: {destination.host} cannot be reached: {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise PeerRefused(f"{destination.name}: cannot be called: {error}") from error


def _failure(destination: Destination, assoc: Association) -> PeerBusy | PeerRefused | PeerUnreachable:
    answer = assoc.acceptor.primitive
    who = f"{destination.name} ({destination.ae_title})"
    if assoc.is_rejected and answer is not None:
        words = REJECTION_WORDS.get((answer.result_source, answer.diagnostic), "it gives no reason")
        message = f"{who} rejected the association: {words}"
        if answer.result == REJECTED_TRANSIENT:
            return PeerBusy(message)
        about_us = (answer.result_source, answer.diagnostic) == CALLER_NOT_RECOGNISED
        return CallerRefused(message) if about_us else PeerRefused(message)
    if assoc.rejected_contexts and not assoc.accepted_contexts:
        names = sorted({UID(context.abstract_syntax).name for context in assoc.rejected_contexts})
        return NothingAccepted(f"{who} does not accept {' nor '.join(names)}")
    return PeerUnreachable(
        f"{destination.name}: no association with {destination.ae_title} at {destination.host}:{destination.port}"
    )


def accepted_classes(assoc: Association) -> set[str]:
    """Return the SOP classes that the peer accepted in any transfer syntax."""
    return {str(context.abstract_syntax) for context in assoc.accepted_contexts}


def require_class(destination: Destination, assoc: Association, sop_class_uid: str) -> None:
    """Raise PeerRefused unless the peer accepted a SOP class."""
    if sop_class_uid not in accepted_classes(assoc):
        words = f"{destination.name} ({destination.ae_title}) does not accept {UID(sop_class_uid).name}"
        raise PeerRefused(words)


def ask(destination: Destination, send: Callable[..., Any], *arguments: Any) -> Any:
    """Send a DIMSE request with one of pynetdicom's methods, its errors turned into ours.

    Raises
    ------
    dicom_io.errors.PeerUnreachable
        When the association has ended meanwhile.
    dicom_io.errors.PeerRefused
        When the peer accepted no presentation context for it.
    """
    try:
        return send(*arguments)
    except RuntimeError as error:
        raise PeerUnreachable(f"{destination.name} ({destination.ae_title}) ended the association") from error
    except (AttributeError, ValueError) as error:
        raise PeerRefused(
            f"{destination.name} ({destination.ae_title}): the request cannot be sent: {error}"
        ) from error


def require_status(destination: Destination, answer: Dataset, request: str) -> int:
    """Return the status of a DIMSE answer that means success or a warning; raise what any other means.

    Parameters
    ----------
    destination : dicom_io.types.Destination
        Who answered.
    answer : pydicom.dataset.Dataset
        As pynetdicom returns it: empty when no valid answer came.
    request : str
        What was asked, for the message, such as ``"C-STORE"``.

    Returns
    -------
    int
        0x0000, 0xFF00 or 0xFF01 (pending), or a warning (0x0001, 0x0107, 0x0116, 0xBxxx).

    Raises
    ------
    dicom_io.errors.PeerUnreachable
        No answer: a timeout, an abort, or something that is not an answer.
    dicom_io.errors.PeerBusy
        0xA7xx (out of resources) and 0x0213 (resource limitation).
    dicom_io.errors.PeerRefused
        Any other failure.

    References
    ----------
    PS3.7 Annex C; PS3.4 B.2.3 and C.4.1.1.4.
    """
    status = answer.get("Status")
    if not isinstance(status, int):
        raise PeerUnreachable(f"{destination.name} ({destination.ae_title}) did not answer our {request}")
    if status in (0x0000, 0x0001, 0x0107, 0x0116, 0xFF00, 0xFF01) or 0xB000 <= status <= 0xBFFF:
        return status
    message = f"{destination.name} ({destination.ae_title}) answered our {request} with status 0x{status:04X}"
    message += f": {STATUS_WORDS[status]}" if status in STATUS_WORDS else ""
    if status == 0x0213 or 0xA700 <= status <= 0xA7FF:
        raise PeerBusy(message)
    raise PeerRefused(message)
