"""What a PACS says of what it was sent, on SQLite here and on PostgreSQL in tests/integration/postgresql."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_io.header.scope import ScopeRule
from dicom_io.receive.intake import CommitmentRefused
from dicom_io.receive.listener_settings import AllowedCaller
from dicom_io.types import CommitmentReport, Peer
from tests.databases import MORNING, a_delivery, a_job, a_study, kinds, only
from worker.db.tables import Delivery, Event
from worker.reception.intake import SqlIntake

TRANSACTION = "2.25.777"
PACS = Peer("PACS", "10.0.0.5")
STRANGERS = {
    "another AE title": Peer("STRANGER", "10.0.0.5"),
    "another address": Peer("PACS", "10.0.0.6"),
    "another destination": Peer("OTHER", "10.0.0.7"),
    "this machine": Peer("PACS", "127.0.0.1"),
}


@pytest.fixture
def intake(database, clock):
    answerers = {"pacs": (AllowedCaller("PACS", "10.0.0.5"),), "other": (AllowedCaller("OTHER", "10.0.0.7"),)}
    return SqlIntake(database, ScopeRule(), lambda attempts: 10.0 * attempts, clock, answerers)


@pytest.fixture
def delivery(database):
    with database.write() as session:
        job = a_job(session, a_study(session))
        return a_delivery(
            session, job, state="sent", attempts=2, transaction_uid=TRANSACTION, sent_at=MORNING, lease_token="token"
        )


def test_a_commitment_is_final(intake, database, delivery, clock):
    clock.advance(60)
    intake.commitment(CommitmentReport(TRANSACTION, (delivery.sop_instance_uid,)), PACS)
    row = only(database, Delivery)
    assert (row.state, row.committed_at, row.confirmed_by) == ("committed", clock(), "commitment")
    assert (row.sent_at, row.lease_token, row.next_attempt_at) == (MORNING, None, None)
    assert kinds(database) == ["committed"]


def test_the_same_commitment_twice_counts_once(intake, database, delivery, clock):
    for _ in range(2):
        intake.commitment(CommitmentReport(TRANSACTION, (delivery.sop_instance_uid,)), PACS)
        clock.advance(60)
    assert only(database, Delivery).committed_at == MORNING
    assert kinds(database) == ["committed"]


def test_a_commitment_may_come_before_its_sender_has_noted_that_it_sent(intake, database, delivery):
    with database.write() as session:
        row = session.get_one(Delivery, delivery.id)
        row.state, row.sent_at = "sending", None
    intake.commitment(CommitmentReport(TRANSACTION, (delivery.sop_instance_uid,)), PACS)
    row = only(database, Delivery)
    assert (row.state, row.sent_at, row.lease_token) == ("committed", MORNING, None)


def test_a_refused_commitment_is_sent_again_after_a_while(intake, database, delivery):
    failed = CommitmentReport(TRANSACTION, (), ((delivery.sop_instance_uid, 0x0112),))
    intake.commitment(failed, PACS)
    intake.commitment(failed, PACS)
    row = only(database, Delivery)
    assert (row.state, row.next_attempt_at) == ("pending", MORNING + timedelta(seconds=20))
    assert row.reason == "pacs did not commit the report: it does not have the object (0x0112)"
    assert kinds(database) == ["commitment_failed"]


def test_a_commitment_is_not_undone_by_a_late_failure(intake, database, delivery):
    intake.commitment(CommitmentReport(TRANSACTION, (delivery.sop_instance_uid,)), PACS)
    intake.commitment(CommitmentReport(TRANSACTION, (), ((delivery.sop_instance_uid, 0x0110),)), PACS)
    assert only(database, Delivery).state == "committed"


def test_an_object_named_as_committed_and_failed_is_failed(intake, database, delivery):
    uid = delivery.sop_instance_uid
    intake.commitment(CommitmentReport(TRANSACTION, (uid,), ((uid, 0x0110),)), PACS)
    assert only(database, Delivery).state == "pending"


@pytest.mark.parametrize(("transaction", "instance"), [("2.25.778", "2.25.9001"), (TRANSACTION, "2.25.1")])
def test_a_commitment_that_is_not_about_ours_is_on_the_trace_and_no_error(
    intake, database, delivery, transaction, instance
):
    intake.commitment(CommitmentReport(transaction, (instance,)), PACS)
    assert only(database, Delivery).state == "sent"
    assert kinds(database) == ["commitment_unknown"]


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("failure", [False, True])
def test_only_the_peer_that_a_report_was_sent_to_can_say_what_became_of_it(
    intake, database, delivery, stranger, failure
):
    """Who knows the Transaction UID could else count a report as safe that no PACS has, or have it sent for ever."""
    uid = delivery.sop_instance_uid
    said = CommitmentReport(TRANSACTION, (), ((uid, 0x0112),)) if failure else CommitmentReport(TRANSACTION, (uid,))
    for _ in range(2):
        with pytest.raises(CommitmentRefused, match=f"pacs came from {stranger.ae_title} at {stranger.address}"):
            intake.commitment(said, stranger)
    row = only(database, Delivery)
    assert (row.state, row.committed_at, row.lease_token, row.next_attempt_at) == ("sent", None, "token", None)
    assert stranger.address in row.reason
    assert kinds(database) == ["commitment_refused"]
    assert only(database, Event).detail["address"] == stranger.address
    intake.commitment(CommitmentReport(TRANSACTION, (uid,)), PACS)
    row = only(database, Delivery)
    assert (row.state, row.reason) == ("committed", None)


def test_a_destination_that_the_settings_no_longer_name_has_nobody_to_answer_for_it(database, delivery):
    intake = SqlIntake(database, ScopeRule(), backoff=float)
    with pytest.raises(CommitmentRefused):
        intake.commitment(CommitmentReport(TRANSACTION, (delivery.sop_instance_uid,)), PACS)
    assert only(database, Delivery).state == "sent"


def test_what_was_committed_stays_so_when_a_stranger_says_otherwise(intake, database, delivery):
    uid = delivery.sop_instance_uid
    intake.commitment(CommitmentReport(TRANSACTION, (uid,)), PACS)
    with pytest.raises(CommitmentRefused):
        intake.commitment(CommitmentReport(TRANSACTION, (), ((uid, 0x0112),)), STRANGERS["another address"])
    row = only(database, Delivery)
    assert (row.state, row.reason) == ("committed", None)
