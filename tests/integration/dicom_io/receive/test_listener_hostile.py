"""Peers that break off, flood, lie about lengths or never finish, on plain sockets where an SCU would be too polite."""

import io
import logging
import socket
import struct
import threading
import time
from contextlib import contextmanager

import pytest
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from dicom_io.network.wire import IncomingDataSet
from tests.builders import build_cr
from tests.listening import listening, request_for
from tests.scu import associate, store

A_ASSOCIATE_AC, A_ABORT = 2, 7
LITTLE = "1.2.840.10008.1.2.1"


def association_request() -> bytes:
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "HOSTILE", "BONEWATCH"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16384, "1.2.3"
    request.user_information = [length, implementation]
    context = build_context("1.2.840.10008.5.1.4.1.1.1", LITTLE)
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return pdu.encode()


def store_pdus(request, size=1024) -> list[bytes]:
    """Return the PDUs of a C-STORE request: the command, then the data set in pieces."""
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 1, 0
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = request.sop_class_uid, request.sop_instance_uid
    primitive.DataSet = io.BytesIO(request.data_set)
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    pdus = []
    for data in message.encode_msg(1, size):
        pdu = P_DATA_TF()
        pdu.from_primitive(data)
        pdus.append(pdu.encode())
    return pdus


def read_pdu(connection) -> int:
    """Return the type of the next PDU; 0 when the connection was closed."""
    try:
        head = connection.recv(6, socket.MSG_WAITALL)
        if len(head) < 6:
            return 0
        connection.recv(struct.unpack(">BBI", head)[2], socket.MSG_WAITALL)
    except ConnectionResetError:
        return 0
    return head[0]


@contextmanager
def connected(running, established=True):
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        if established:
            connection.sendall(association_request())
            assert read_pdu(connection) == A_ASSOCIATE_AC
        yield connection


def wait_until_alone(running):
    """Wait, without sleeping a fixed time, until the listener has no association any more."""
    end = time.monotonic() + 60
    while running.listener.active_associations:
        assert time.monotonic() < end
        threading.Event().wait(0.005)


def works(running):
    return running.push(request_for(build_cr(instance="another"))) == [0x0000]


def test_a_peer_that_breaks_off_within_a_data_set_leaves_nothing(tmp_path):
    ds = build_cr()
    ds.PixelData = bytes(6 << 20)
    pdus = store_pdus(request_for(ds), size=65536)
    with listening(tmp_path) as running:
        with connected(running) as connection:
            connection.sendall(b"".join(pdus[: len(pdus) - 10]))
        wait_until_alone(running)
        assert running.files("") == []
        assert running.intake.registrations == []
        assert works(running)


def test_a_peer_that_breaks_off_within_a_pdu_leaves_nothing(tmp_path):
    pdus = store_pdus(request_for(build_cr()))
    with listening(tmp_path) as running:
        with connected(running) as connection:
            connection.sendall(pdus[0] + pdus[1][:100])
        wait_until_alone(running)
        assert running.files("") == []
        assert works(running)


def test_the_same_push_after_a_break_succeeds(tmp_path):
    request = request_for(build_cr())
    with listening(tmp_path) as running:
        with connected(running) as connection:
            connection.sendall(b"".join(store_pdus(request)[:2]))
        assert running.push(request) == [0x0000]


def test_a_pdu_that_claims_gigabytes_ends_the_connection_at_once(tmp_path):
    with listening(tmp_path) as running:
        with connected(running) as connection:
            connection.sendall(struct.pack(">BBI", 4, 0, 0xFFFFFFFF))
            assert read_pdu(connection) in (0, A_ABORT)
        assert works(running)


def test_a_pdu_that_trickles_ends_after_the_network_timeout(tmp_path):
    with listening(tmp_path, network_timeout_seconds=0.1) as running, connected(running) as connection:
        connection.sendall(struct.pack(">BBI", 4, 0, 1000))
        assert read_pdu(connection) in (0, A_ABORT)


def test_a_connection_that_never_asks_for_an_association_is_closed(tmp_path):
    with (
        listening(tmp_path, acse_timeout_seconds=0.1, network_timeout_seconds=0.1) as running,
        connected(running, established=False) as connection,
    ):
        assert read_pdu(connection) in (0, A_ABORT)


def test_an_association_that_falls_silent_is_ended(tmp_path):
    with listening(tmp_path, network_timeout_seconds=0.1) as running, connected(running) as connection:
        assert read_pdu(connection) == A_ABORT


def test_a_message_that_never_ends_is_ended(tmp_path):
    pdus = store_pdus(request_for(build_cr()))
    with listening(tmp_path, message_timeout_seconds=0.0) as running, connected(running) as connection:
        connection.sendall(pdus[0] + pdus[1])
        assert read_pdu(connection) == A_ABORT


def test_a_command_that_never_ends_is_ended(tmp_path):
    # A presentation data value (PS3.8 9.3.5.1) of context 1 whose control header says: command, not the last piece.
    piece = struct.pack(">IBB", 4002, 1, 0x01) + bytes(4000)
    with listening(tmp_path) as running:
        with connected(running) as connection:
            connection.sendall((struct.pack(">BBI", 4, 0, len(piece)) + piece) * 20)
            assert read_pdu(connection) in (0, A_ABORT)
        assert works(running)


def test_requests_that_do_not_wait_for_answers_are_ended(tmp_path):
    pdus = b"".join(store_pdus(request_for(build_cr())))
    with listening(tmp_path) as running:
        with connected(running) as connection:
            connection.sendall(pdus * 200)
            answers = iter(lambda: read_pdu(connection), 0)
            assert next(each for each in answers if each != 4) == A_ABORT
        assert works(running)


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 64, struct.pack(">BBI", 1, 0, 8) + b"notarequ"]
)
def test_what_is_not_dicom_is_turned_away(tmp_path, garbage):
    with listening(tmp_path) as running:
        with connected(running, established=False) as connection:
            connection.sendall(garbage)
            assert read_pdu(connection) in (0, A_ABORT)
        assert works(running)


def test_a_flood_of_connections_starts_a_bounded_number_of_threads(tmp_path):
    with listening(tmp_path, maximum_associations=1) as running:
        flood = [socket.create_connection(("127.0.0.1", running.port), timeout=60) for _number in range(60)]
        try:
            # The last ones are closed without a word; the number of those kept is the bound.
            assert flood[-1].recv(1) == b""
            assert running.listener.active_associations <= 17
        finally:
            for connection in flood:
                connection.close()
        wait_until_alone(running)
        assert works(running)


def test_stopping_lets_a_running_push_finish(tmp_path):
    request = request_for(build_cr())
    with listening(tmp_path) as running:
        assoc = associate(running.port, [request])
        stopping = threading.Thread(target=running.listener.stop)
        stopping.start()
        assert store(assoc, request) == 0x0000
        assoc.release()
        stopping.join(60)
        assert not stopping.is_alive()


def test_stopping_ends_an_association_that_only_sits_there(tmp_path):
    with listening(tmp_path, shutdown_seconds=0.1) as running, connected(running) as connection:
        running.listener.stop()
        assert read_pdu(connection) == A_ABORT


def test_a_listener_may_be_started_once_at_a_time_and_again_after_a_stop(tmp_path):
    with listening(tmp_path) as running:
        with pytest.raises(RuntimeError, match="already"):
            running.listener.start()
        running.listener.stop()
        running.listener.start()
        assert works(running)


def test_no_patient_data_reaches_the_log(tmp_path, caplog, capsys):
    request = request_for(build_cr(PatientName="SECRET^NAME", PatientID="SECRET-ID"))
    with caplog.at_level(logging.DEBUG), listening(tmp_path) as running:
        running.push(request, request_for(build_cr(PatientName="SECRET^OTHER", AccessionNumber="SECRET-NUMBER")))
    printed = capsys.readouterr()
    assert "instance_received" in printed.out
    assert "SECRET" not in printed.out + printed.err + caplog.text + repr(running.intake.rejections)


def test_a_full_disk_while_a_data_set_arrives_is_remembered_not_raised():
    class Full(io.BytesIO):
        def write(self, _data):
            raise OSError(28, "No space left on device")

    incoming = IncomingDataSet(Full, maximum_bytes=1 << 30)
    for _piece in range(10):
        incoming.write(bytes(1 << 20))
    assert "No space left" in str(incoming.error)
    assert incoming.stream().read() == b""
    incoming.close()


def test_a_data_set_in_pieces_comes_out_whole_on_both_sides_of_the_memory_limit():
    for size in (1000, (4 << 20) - 7, (4 << 20) + 7, 9 << 20):
        content = bytes(range(251)) * (size // 251 + 1)
        incoming = IncomingDataSet(io.BytesIO, maximum_bytes=1 << 30)
        for start in range(0, len(content), 16_378):
            incoming.write(content[start : start + 16_378])
        assert incoming.stream().read() == content
        incoming.close()
