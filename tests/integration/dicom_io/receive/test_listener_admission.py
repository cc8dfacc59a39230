"""Who gets an association and for what, seen from the other end of it."""

import ipaddress
import socket
import time

import pytest
from pydicom.uid import UID_dictionary
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    CTImageStorage,
    HangingProtocolStorage,
    PatientRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_io.receive import listener_settings
from dicom_io.receive.admission import TRANSFER_SYNTAXES, Admission, Throttle, is_storage_class
from dicom_io.receive.listener import AllowedCaller, ListenerSettings
from tests.fakes import FakeIntake
from tests.listening import LITTLE, associate, listening


def rejection_of(assoc):
    assert assoc.is_rejected
    answer = assoc.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


def test_an_echo_is_answered(tmp_path):
    with listening(tmp_path) as running:
        assoc = associate(running.port)
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


def test_another_called_ae_title_is_rejected_and_recorded(tmp_path):
    with listening(tmp_path) as running:
        assert rejection_of(associate(running.port, called="SOMEONE")) == (1, 1, 7)
    (rejection,) = running.intake.rejections
    assert (rejection.code, rejection.status, rejection.peer.ae_title) == ("association_refused", None, "PACS")
    assert "SOMEONE" in rejection.reason


def test_any_called_ae_title_will_do_when_the_setting_says_so(tmp_path):
    with listening(tmp_path, require_called_ae_title=False) as running:
        assoc = associate(running.port, called="SOMEONE")
        assert assoc.is_established
        assoc.release()


@pytest.mark.parametrize(
    "caller",
    [
        AllowedCaller("PACS"),
        AllowedCaller("PACS", "127.0.0.1"),
        AllowedCaller("PACS", "127.0.0.0/8"),
        AllowedCaller("PACS", "localhost"),
    ],
)
def test_a_caller_on_the_list_is_admitted(tmp_path, caller):
    with listening(tmp_path, allowed_callers=(AllowedCaller("OTHER"), caller)) as running:
        assoc = associate(running.port)
        assert assoc.is_established
        assoc.release()


@pytest.mark.parametrize(
    "caller",
    [
        AllowedCaller("OTHER"),
        AllowedCaller("PACS", "192.0.2.7"),
        AllowedCaller("PACS", "192.0.2.0/24"),
        AllowedCaller("pacs"),
    ],
)
def test_a_caller_that_is_not_on_the_list_is_rejected_and_recorded(tmp_path, caller):
    with listening(tmp_path, allowed_callers=(caller,)) as running:
        assert rejection_of(associate(running.port)) == (1, 1, 3)
    (rejection,) = running.intake.rejections
    assert rejection.code == "association_refused"


def test_doctors_call_is_rejected_as_any_other_but_is_no_caller_to_record(tmp_path):
    with listening(tmp_path, allowed_callers=(AllowedCaller("PACS"),)) as running:
        assert rejection_of(associate(running.port, calling="BONEWATCH")) == (1, 1, 3)
    assert running.intake.rejections == []


def test_a_caller_from_elsewhere_under_our_own_title_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr("dicom_io.receive.admission.is_from_here", lambda assoc: False)
    with listening(tmp_path, allowed_callers=(AllowedCaller("PACS"),)) as running:
        assert rejection_of(associate(running.port, calling="BONEWATCH")) == (1, 1, 3)
    assert [each.code for each in running.intake.rejections] == ["association_refused"]


def test_a_caller_that_tries_again_and_again_is_recorded_once(tmp_path):
    with listening(tmp_path) as running:
        for _attempt in range(5):
            assert associate(running.port, called="SOMEONE").is_rejected
        assert associate(running.port, calling="OTHER", called="SOMEONE").is_rejected
    assert [each.peer.ae_title for each in running.intake.rejections] == ["PACS", "OTHER"]


def test_a_rejected_caller_is_on_record_before_its_connection_is_waited_for(tmp_path, monkeypatch):
    """A caller may keep the connection open as long as it likes."""
    on_record = []
    kill = Association.kill

    def waiting_kill(assoc):
        if assoc.is_acceptor:
            on_record.append(len(running.intake.rejections))
        kill(assoc)

    monkeypatch.setattr(Association, "kill", waiting_kill)
    with listening(tmp_path) as running:
        assert associate(running.port, called="SOMEONE").is_rejected
    assert on_record[0] == 1


def test_a_rejection_that_cannot_be_recorded_is_a_rejection_all_the_same(tmp_path):
    with listening(tmp_path, FakeIntake(unavailable=True)) as running:
        assert rejection_of(associate(running.port, called="SOMEONE")) == (1, 1, 7)


def test_a_caller_is_rejected_even_when_recording_it_fails_in_an_unforeseen_way(tmp_path):
    class Broken(FakeIntake):
        def reject(self, rejection):
            raise ZeroDivisionError

    with listening(tmp_path, Broken(), allowed_callers=(AllowedCaller("OTHER"),)) as running:
        assert rejection_of(associate(running.port)) == (1, 1, 3)


def test_a_check_that_fails_rejects(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError

    monkeypatch.setattr(Admission, "_refusal", fail)
    with listening(tmp_path) as running:
        assert rejection_of(associate(running.port)) == (2, 1, 1)


def test_one_association_more_than_the_maximum_is_rejected_for_now_and_recorded(tmp_path):
    with listening(tmp_path, maximum_associations=2) as running:
        first, second = associate(running.port), associate(running.port)
        assert rejection_of(associate(running.port)) == (2, 3, 2)
        first.release()
        second.release()
    assert [each.code for each in running.intake.rejections] == ["association_limit"]


@pytest.mark.parametrize("group", range(4))
def test_every_transfer_syntax_that_pydicom_knows_is_accepted(tmp_path, group):
    offered = TRANSFER_SYNTAXES[group::4]
    with listening(tmp_path) as running:
        assoc = associate(running.port, [(CTImageStorage, each) for each in offered])
        accepted = {context.transfer_syntax[0] for context in assoc.accepted_contexts}
        assoc.release()
    assert accepted == set(offered)


def test_the_transfer_syntaxes_are_those_of_pydicom_without_the_two_for_mail():
    known = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    assert known - set(TRANSFER_SYNTAXES) == {"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2"}


def test_of_several_transfer_syntaxes_one_without_loss_is_chosen(tmp_path):
    baseline, jpeg2000_lossless = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
    with listening(tmp_path) as running:
        contexts = [(CTImageStorage, [baseline, jpeg2000_lossless]), (CTImageStorage, [jpeg2000_lossless, LITTLE])]
        chosen = []
        for context in contexts:
            assoc = associate(running.port, [context])
            chosen += assoc.accepted_contexts[0].transfer_syntax
            assoc.release()
    assert chosen == [jpeg2000_lossless, LITTLE]


def test_an_unknown_transfer_syntax_is_not_accepted_and_recorded(tmp_path):
    with listening(tmp_path) as running:
        assoc = associate(running.port, [(CTImageStorage, "1.2.3.4.5"), (Verification, LITTLE)])
        assert [context.abstract_syntax for context in assoc.accepted_contexts] == [Verification]
        assoc.release()
    (rejection,) = running.intake.rejections
    assert rejection.code == "transfer_syntax_unknown"
    assert CTImageStorage in rejection.reason


def test_what_other_services_own_is_not_accepted(tmp_path):
    foreign = [PatientRootQueryRetrieveInformationModelFind, HangingProtocolStorage]
    with listening(tmp_path) as running:
        assoc = associate(running.port, [(each, LITTLE) for each in [*foreign, Verification]])
        assert [context.abstract_syntax for context in assoc.accepted_contexts] == [Verification]
        assoc.release()


@pytest.mark.parametrize(
    ("uid", "storage"),
    [
        ("1.2.840.10008.5.1.4.1.1.1", True),
        ("1.2.840.10008.5.1.1.29", True),  # Hardcopy Grayscale Image Storage, retired
        ("1.2.840.10008.1.20.1", False),  # Storage Commitment Push
        ("1.2.840.10008.1.20.2", False),  # Storage Commitment Pull, retired
        ("1.2.840.10008.1.3.10", False),  # Media Storage Directory
        ("1.2.840.10008.5.1.4.31", False),  # Modality Worklist
        ("1.2.840.10008.1.1", False),
    ],
)
def test_storage_is_told_from_other_services(uid, storage):
    assert is_storage_class(uid) is storage


def test_the_throttle_lets_a_key_through_once_and_all_together_not_too_often():
    throttle = Throttle(interval_seconds=60, maximum=3)
    assert [throttle.admits(key) for key in "aabacd"] == [True, False, True, False, True, False]


def test_the_throttle_forgets_after_its_interval():
    throttle = Throttle(interval_seconds=0, maximum=1)
    assert [throttle.admits("a"), throttle.admits("a"), throttle.admits("b")] == [True, True, True]


@pytest.mark.parametrize(
    ("address", "admitted"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("10.2.0.1", False), ("fe80::1%eth0", False)],
)
def test_hosts_are_compared_as_addresses(address, admitted):
    assert ListenerSettings(allowed_callers=(AllowedCaller("PACS", "10.1.0.0/16"),)).admits("PACS", address) is admitted


HERE = {"pacs.example.org": ["10.0.0.5", "10.0.0.6", "fd00::5"], "bonewatch.example.org": ["127.0.1.1"]}
OWN = ("127.0.0.1", "127.0.1.1", "::1", "192.0.2.9")
"""Of a machine that has 192.0.2.9 in its network."""


@pytest.mark.parametrize(
    ("host", "address", "admitted"),
    [
        ("pacs.example.org", "10.0.0.6", True),
        ("pacs.example.org", "::ffff:10.0.0.5", True),
        ("pacs.example.org", "fd00::5", True),
        ("pacs.example.org", "10.0.0.7", False),
        ("pacs.example.org", "127.0.0.1", False),
        ("::ffff:10.0.0.5", "10.0.0.5", True),
        ("localhost", "192.0.2.9", True),
        ("192.0.2.9", "127.0.0.1", True),
        ("192.0.2.9", "::1", True),
        ("bonewatch.example.org", "192.0.2.9", True),
        ("localhost", "10.0.0.5", False),
        ("192.0.2.9", "10.0.0.5", False),
        ("192.0.2.0/24", "127.0.0.1", False),
    ],
)
def test_a_host_is_known_by_all_its_addresses_and_this_machine_by_all_of_its_own(monkeypatch, host, address, admitted):
    """A PACS beside us is configured as localhost and calls from the machine's own address, or the other way round."""
    names = HERE | {"localhost": ["127.0.0.1", "::1"]}
    monkeypatch.setattr(listener_settings, "_resolve", lambda name, _: frozenset(map(plain, names.get(name, [name]))))
    monkeypatch.setattr(listener_settings, "_is_this_machine", lambda each: str(each) in OWN)
    assert AllowedCaller("PACS", host).admits("PACS", address) is admitted


def plain(text):
    return listener_settings._plain(ipaddress.ip_address(text))


def test_what_this_machine_can_bind_is_its_own():
    assert listener_settings._is_this_machine(ipaddress.ip_address("127.0.0.1"))
    assert not listener_settings._is_this_machine(ipaddress.ip_address("192.0.2.7"))


@pytest.mark.parametrize(
    "settings", [{"ae_title": " "}, {"ae_title": "X" * 17}, {"maximum_pdu": 0}, {"maximum_associations": 0}]
)
def test_settings_that_cannot_work_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        ListenerSettings(**settings)


def test_a_host_name_that_cannot_be_resolved_admits_nobody_and_is_not_asked_for_every_time(monkeypatch):
    def fail(*_arguments, **_options):
        asked.append(1)
        raise OSError

    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(time, "monotonic", lambda: 7.0)
    caller = AllowedCaller("PACS", "no.such.host.invalid")
    assert not caller.admits("PACS", "192.0.2.7")
    assert not caller.admits("PACS", "192.0.2.7")
    assert len(asked) == 1
