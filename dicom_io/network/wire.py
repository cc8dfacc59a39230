"""What pynetdicom leaves unbounded, bounded: connections, PDUs, messages and the memory they take (PS3.8, PS3.7).

pynetdicom 3 reads as many bytes as a PDU's length field claims (up to 4 GiB), waits for them for ever, and gathers a
whole data set in memory, or else in an unbounded file of the system's temporary folder that a dropped connection leaves
behind. The pieces here take the place of its own through attributes that it documents: `Association.dimse`,
`DIMSEServiceProvider.message` and `DIMSEMessage.data_set`.
"""

from __future__ import annotations

import contextlib
import gc
import io
import socket
import socketserver
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import structlog
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.transport import AssociationServer

from dicom_io.errors import StoreError
from dicom_io.network.answers import AnswerKeepingDimse
from dicom_io.network.incident import incident

log = structlog.get_logger()

# Requests for association name up to 128 contexts; the negotiated maximum is for data only (PS3.8 D.1).
_MAXIMUM_CONTROL_PDU = 1 << 20
_MAXIMUM_COMMAND_BYTES = 1 << 16
_IN_MEMORY_BYTES = 1 << 22
_DISK_CHECK_BYTES = 1 << 26
_ROOM_POLL_SECONDS = 0.005
_COLLECT_SECONDS = 30.0
_DATA_TRANSFER = "Sta6"  # PS3.8 9.2.2
# Connections that are not associations yet, beyond those that may become one.
_SPARE_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one association may take from us; sizes in bytes, times in seconds.

    No asynchronous operations are negotiated: requests come one at a time, a few `waiting_messages` are patience (PS3.7
    D.3.3.3). Answers to our questions come as fast as the peer likes: we stop reading for `room_seconds` at that many.
    """

    maximum_pdu: int
    maximum_instance_bytes: int
    network_timeout_seconds: float
    message_timeout_seconds: float
    waiting_messages: int = 4
    room_seconds: float = 0.0


class IncomingDataSet(io.BytesIO):
    """The encoded data set of one message as it arrives: in memory while small, then in an unnamed file.

    The unnamed file (O_TMPFILE) vanishes with its last handle, whatever ends the association or the process. Writing
    never raises, for pynetdicom would end without an answer: `too_large` and `error` tell the handler afterwards.
    """

    def __init__(self, spool: Callable[[], BinaryIO], maximum_bytes: int) -> None:
        super().__init__()
        self._spool = spool
        self._maximum_bytes = maximum_bytes
        self._file: BinaryIO | None = None
        self._checked_bytes = 0
        self.size_bytes = 0
        self.too_large = False
        self.error: StoreError | None = None

    def write(self, data: Any) -> int:
        """Take the next piece."""
        length = len(data)
        if self.too_large or self.error is not None:
            return length
        if self.size_bytes + length > self._maximum_bytes:
            self.too_large = True
            self._drop()
            return length
        try:
            self._append(data)
        except StoreError as error:
            self.error = error
        except OSError as error:
            self.error = StoreError(f"the store cannot be used: {error.strerror or type(error).__name__}")
        if self.error is not None:
            self._drop()
        self.size_bytes += length
        return length

    def stream(self) -> BinaryIO:
        """Return what has arrived, from its beginning."""
        stream = self if self._file is None else self._file
        stream.seek(0)
        return stream

    def close(self) -> None:
        """Forget everything."""
        self._drop()
        super().close()

    def _append(self, data: bytes) -> None:
        if self._file is None and self.size_bytes + len(data) > _IN_MEMORY_BYTES:
            self._file = self._spool()
            self._file.write(self.getbuffer())
            self.seek(0)
            self.truncate()
        elif self._file is not None and self.size_bytes - self._checked_bytes > _DISK_CHECK_BYTES:
            self._checked_bytes = self.size_bytes
            self._spool().close()
        if self._file is None:
            super().write(data)
        else:
            self._file.write(data)

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if not self.closed:
            self.seek(0)
            self.truncate()


class BoundedDimse(AnswerKeepingDimse):
    """pynetdicom's DIMSE provider with an IncomingDataSet in every message, and limits of time and number."""

    message: Any

    def __init__(self, assoc: Any, bounds: Bounds, spool: Callable[[], BinaryIO]) -> None:
        super().__init__(assoc)
        self._bounds = bounds
        self._spool = spool
        self._begun = 0.0
        self._room_seconds = bounds.room_seconds
        self.last_activity = time.monotonic()

    def receive_primitive(self, primitive: Any) -> None:
        """Take the next fragments of a message; end the association when a limit is passed."""
        self.last_activity = time.monotonic()
        if self.message is None:
            self._begun = self.last_activity
            self.message = DIMSEMessage()
            self.message.data_set = IncomingDataSet(self._spool, self._bounds.maximum_instance_bytes)
        self._wait_for_room()
        reason = self._excess()
        if reason is not None:
            log.warning("association_ended", reason=reason, **caller_fields(self.assoc))
            self.dul.event_queue.put("Evt19")  # as for a message that cannot be decoded: A-ABORT by the provider
            return
        super().receive_primitive(primitive)

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send an answer, unless the association has ended while it was made: pynetdicom's thread would die of it."""
        if self.dul.state_machine.current_state == _DATA_TRANSFER:
            super().send_msg(primitive, context_id)

    def stop_reading(self) -> None:
        """Stop waiting for room: who reads the answers has had enough."""
        self._room_seconds = 0.0

    def _wait_for_room(self) -> None:
        full_since = time.monotonic()
        while self._is_full() and time.monotonic() - full_since < self._room_seconds:
            time.sleep(_ROOM_POLL_SECONDS)

    def _is_full(self) -> bool:
        return bool(self.msg_queue.qsize() >= self._bounds.waiting_messages)

    def _excess(self) -> str | None:
        if time.monotonic() - self._begun > self._bounds.message_timeout_seconds:
            return "a message took too long to arrive"
        if self.message.encoded_command_set.tell() > _MAXIMUM_COMMAND_BYTES:
            return "a command set is too long"
        if self._is_full():
            return "messages arrive without waiting for answers"
        return None


class BoundedServer(AssociationServer):  # type: ignore[misc] # pynetdicom is untyped here
    """pynetdicom's server that does not start threads for every connection of a flood.

    Connections are set up one after the other in the server's own thread, which only has to start theirs: so their
    number is known exactly.
    """

    request_queue_size = 64
    _collected = 0.0

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Turn away connections far beyond the number that may become associations."""
        return bool(len(self.active_associations) < self.ae.maximum_associations + _SPARE_CONNECTIONS)

    def service_actions(self) -> None:
        """Collect garbage every half minute. pynetdicom counts polls, and we poll oftener than it expects."""
        if time.monotonic() - self._collected > _COLLECT_SECONDS:
            self._collected = time.monotonic()
            gc.collect()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a connection could not be set up; socketserver prints a traceback here."""
        error = sys.exc_info()[1]
        log.warning("connection_failed", **({} if error is None else incident(error)))

    def shutdown(self) -> None:
        """Stop accepting and close the socket. pynetdicom's own expects to be in its list of servers."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


def guard(event: Any, bounds: Bounds, spool: Callable[[], BinaryIO]) -> None:
    """Put the bounds on a connection that was just opened (handler of EVT_CONN_OPEN)."""
    assoc = event.assoc
    assoc.dimse = BoundedDimse(assoc, bounds, spool)
    connection = assoc.dul.socket
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.recv = partial(_receive, connection, bounds)


def closed(event: Any) -> None:
    """Let go of everything that a closed connection still holds (handler of EVT_CONN_CLOSE).

    An unfinished message is freed now and not when Python next looks for reference cycles. A thread that waits for an
    association request would wait on until its timeout, and count as an association meanwhile: None is what
    DULServiceProvider.receive_pdu returns at a timeout, and ends it.
    """
    assoc = event.assoc
    message = assoc.dimse.message
    if message is not None and message.data_set is not None:
        message.data_set.close()
    if assoc.requestor.primitive is None:
        assoc.dul.to_user_queue.put(None)


def hang_up(assoc: Any) -> None:
    """Abort an association, or cut a connection that is none yet, without waiting for either."""
    if assoc.is_established:
        assoc.abort(block=False)
        return
    connection = assoc.dul.socket
    with contextlib.suppress(OSError, AttributeError):  # closed meanwhile
        connection.socket.shutdown(socket.SHUT_RDWR)


def _receive(connection: Any, bounds: Bounds, nr_bytes: int) -> bytearray:
    """Read `nr_bytes` as AssociationSocket.recv does, within one deadline and no more than allowed.

    Returns fewer bytes when the peer closes the connection.

    Raises
    ------
    OSError
        Too much was announced, or it took too long; pynetdicom then closes the connection.
    """
    if nr_bytes > max(bounds.maximum_pdu, _MAXIMUM_CONTROL_PDU):
        raise OSError("a PDU is longer than allowed")
    received = bytearray(nr_bytes)
    view = memoryview(received)
    position = 0
    deadline = time.monotonic() + bounds.network_timeout_seconds
    while position < nr_bytes:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("a PDU took too long to arrive")
        connection.socket.settimeout(remaining)
        count = connection.socket.recv_into(view[position:])
        if count == 0:
            view.release()
            return received[:position]
        position += count
    view.release()
    # A sender with Nagle's algorithm on holds the data set back until the command is acknowledged, and the kernel would
    # let it wait 40 ms for that. The option lasts for a while only, hence each time.
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    # From here on the timeout is for what we send: a peer that does not read its answers is let go.
    connection.socket.settimeout(bounds.network_timeout_seconds)
    return received


def caller_fields(assoc: Any) -> dict[str, str]:
    """Return who calls, for the log: what the association says, safe to print."""
    return {"ae_title": printable(assoc.requestor.ae_title or ""), "address": address_of(assoc)}


def address_of(assoc: Any) -> str:
    """Return the network address of the calling side."""
    info = assoc.requestor.address_info
    return "" if info is None else str(info.address)


def is_from_here(assoc: Any) -> bool:
    """Say whether the calling side is this machine: both ends of the connection have one address."""
    wrapper = assoc.dul.socket
    try:
        own = str(wrapper.socket.getsockname()[0])
    except (OSError, AttributeError):  # closed meanwhile
        return False
    return own == address_of(assoc)


def printable(text: str) -> str:
    """Return an AE title without padding, anything odd replaced: it comes from outside and goes into records."""
    return "".join(each if each.isprintable() else "?" for each in str(text)).strip()[:16]
