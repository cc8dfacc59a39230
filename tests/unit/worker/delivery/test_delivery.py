from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select

from dicom_io.errors import HeaderError, PeerBusy, PeerRefused, PeerUnreachable
from dicom_io.types import CommitmentReport, Destination
from tests.databases import MORNING, Clock, a_delivery, a_job, a_study, sqlite_database
from tests.fakes_worker import SR_CLASS, FakePacs, FakeStore, Script, commits, refuses
from worker.db.tables import Delivery, Event, Report
from worker.delivery import states as delivery_states
from worker.delivery.commitments import settle
from worker.delivery.delivery import DeliveryCollaborators, deliver
from worker.delivery.rule import DeliveryRule
from worker.operate import retries

RULE = DeliveryRule(commitment_timeout_seconds=60, commitment_attempts=3)
DOWN = PeerUnreachable("pacs does not answer")


class Bench:
    def __init__(self, folder, confirm="commitment"):
        self.database = sqlite_database(folder)
        self.clock, self.pacs, self.store = Clock(), FakePacs(), FakeStore(folder)
        destination = Destination("pacs", "PACS", "127.0.0.1", 104, "BONEWATCH", confirm)
        self.parts = DeliveryCollaborators(
            self.database, self.store, self.pacs, lambda path: path, {"pacs": destination}, RULE, self.clock
        )

    def add(self, number=1, **values) -> int:
        with self.database.write() as session:
            job = a_job(session, a_study(session, number))
            uid = f"2.25.900{number}"
            self.store.add(f"reports/{uid}.dcm")
            session.add(
                Report(
                    job_id=job.id, state="built", path=f"reports/{uid}.dcm", built_at=MORNING,
                    sop_instance_uid=uid, sop_class_uid=SR_CLASS, series_instance_uid="2.25.7",
                )
            )  # fmt: skip
            session.flush()
            return a_delivery(session, job, **values).id

    def deliver(self, delivery_id=1, seconds=0.0):
        self.clock.advance(seconds)
        deliver(delivery_id, self.parts)
        return self.row(delivery_id)

    def row(self, delivery_id=1) -> Delivery:
        with self.database.read() as session:
            found = session.get_one(Delivery, delivery_id)
            session.expunge(found)
            return found

    def kinds(self) -> list[str]:
        with self.database.read() as session:
            return list(session.scalars(select(Event.kind).order_by(Event.id)))

    def hear(self, answer: CommitmentReport) -> None:
        """Take in an N-EVENT-REPORT as the listener does."""
        with self.database.write() as session:
            settle(session, answer, self.clock(), RULE.backoff)

    def due(self) -> tuple[int, ...]:
        return delivery_states.due(self.database, now=self.clock(), limit=100)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    bench.add()
    yield bench
    bench.database.close()


def test_a_report_is_sent_and_committed_on_the_same_association(bench):
    bench.pacs.answers = Script([commits])

    row = bench.deliver()

    assert (row.state, row.confirmed_by, row.committed_at, row.lease_token) == (
        "committed",
        "commitment",
        MORNING,
        None,
    )
    assert (row.attempts, row.sent_at) == (1, MORNING)
    assert bench.kinds() == ["sent", "committed"]


def test_a_report_whose_commitment_comes_later_stays_sent_until_it_is_heard(bench):
    row = bench.deliver()
    assert (row.state, row.lease_token, row.transaction_uid) == ("sent", None, bench.pacs.asked[0])
    assert bench.due() == ()

    bench.hear(CommitmentReport(row.transaction_uid, ("2.25.9001",)))

    assert bench.row().state == "committed"


def test_an_answer_that_is_quicker_than_our_next_statement_is_not_lost(bench):
    def answer_elsewhere(references, transaction_uid):
        bench.hear(commits(references, transaction_uid))

    bench.pacs.answers = Script([answer_elsewhere])

    assert bench.deliver().state == "committed"


def test_a_late_answer_to_an_earlier_question_still_counts(bench):
    bench.deliver()
    bench.deliver(seconds=60)
    assert len(set(bench.pacs.asked)) == 1 < len(bench.pacs.asked)

    bench.hear(CommitmentReport(bench.pacs.asked[0], ("2.25.9001",)))

    assert bench.row().state == "committed"


def test_questions_are_repeated_at_growing_distances_and_then_the_report_is_sent_again(bench):
    asked = []
    for second in range(0, 421, 10):
        before = len(bench.pacs.asked)
        if bench.due():
            bench.deliver()
        if len(bench.pacs.asked) > before:
            asked.append(second)
        bench.clock.advance(10)

    assert asked == [0, 60, 180, 420]
    assert bench.pacs.sent == ["2.25.9001"] * 2
    assert "unconfirmed" in bench.kinds()


def test_a_pacs_that_did_not_keep_the_report_gets_it_again_under_a_new_transaction(bench):
    bench.pacs.answers = Script([refuses, commits])
    assert bench.deliver().state == "pending"
    assert bench.due() == ()

    row = bench.deliver(seconds=5)

    assert row.state == "committed"
    assert len(bench.pacs.sent) == len(set(bench.pacs.asked)) == 2


def test_a_pacs_that_is_down_gets_its_report_when_it_is_back(bench):
    bench.pacs.sends = Script([DOWN, DOWN, DOWN, None])
    bench.pacs.answers = Script([commits])
    waits = []
    for _ in range(3):
        row = bench.deliver()
        waits.append((row.next_attempt_at - bench.clock()).total_seconds())
        bench.clock.now = row.next_attempt_at

    assert waits == [5, 10, 20]
    assert bench.deliver().state == "committed"
    assert bench.kinds() == ["delivery_postponed", "sent", "committed"]


def test_one_report_finds_out_for_all_that_the_pacs_is_down_and_that_it_is_back(bench):
    others = [bench.add(number) for number in (2, 3)]
    bench.pacs.sends = Script([DOWN, None])
    bench.pacs.answers = Script([commits])

    bench.deliver()
    assert len(bench.pacs.sent) == 0
    assert bench.due() == ()
    bench.deliver(seconds=5)

    assert [bench.row(each).state for each in (1, *others)] == ["committed"] * 3


def test_a_busy_pacs_holds_back_only_the_report_it_did_not_take(bench):
    other = bench.add(2)
    bench.pacs.sends = Script([PeerBusy("out of resources"), None])
    bench.pacs.answers = Script([commits])

    bench.deliver()

    assert (bench.row().state, bench.row(other).state) == ("pending", "committed")


def test_what_a_pacs_refuses_is_failed_and_can_be_revived(bench):
    bench.pacs.sends = Script([PeerRefused("it does not know our AE title"), None])
    bench.pacs.answers = Script([commits])
    row = bench.deliver()
    assert (row.state, row.reason) == ("failed", "it does not know our AE title")
    assert bench.due() == ()

    assert retries.revive_deliveries(bench.database) == 1
    assert bench.deliver().state == "committed"


def test_a_pacs_that_offers_no_commitment_is_said_to_be_so(bench):
    bench.pacs.answers = Script([PeerRefused("it does not offer storage commitment")])

    row = bench.deliver()

    assert (row.state, row.sent_at, row.reason) == ("failed", MORNING, "it does not offer storage commitment")


def test_a_pacs_that_goes_down_between_sending_and_asking_is_asked_again(bench):
    bench.pacs.answers = Script([DOWN, commits])
    row = bench.deliver()
    assert (row.state, row.lease_token) == ("sent", None)

    bench.clock.now = row.next_attempt_at
    assert bench.deliver().state == "committed"
    assert len(bench.pacs.sent) == 1


def test_a_step_that_breaks_is_visible_and_tried_again(bench):
    bench.pacs.sends = Script([ZeroDivisionError("DOE^JOHN"), None])

    row = bench.deliver()

    assert (row.state, row.lease_token, row.reason) == ("pending", None, "unexpected error (ZeroDivisionError)")
    bench.clock.now = row.next_attempt_at
    assert bench.deliver().state == "sent"


def test_a_store_that_is_not_mounted_keeps_reports_waiting(bench, tmp_path):
    bench.store.root = tmp_path / "elsewhere"
    row = bench.deliver()
    assert row.state == "pending"
    assert "mounted" in row.reason

    bench.store.root = tmp_path
    bench.clock.now = row.next_attempt_at
    assert bench.deliver().state == "sent"


def test_claims_at_the_same_moment_do_not_exceed_what_a_destination_gets(bench):
    ids = [1, *(bench.add(number) for number in range(2, 9))]
    barrier, held = threading.Barrier(len(ids)), []

    def claim(delivery_id):
        barrier.wait()
        held.append(delivery_states.claim(bench.database, delivery_id, RULE, now=MORNING))

    threads = [threading.Thread(target=claim, args=(each,)) for each in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len([each for each in held if each]) == RULE.maximum_parallel


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda _path: None])
def test_a_report_whose_file_is_lost_or_damaged_is_made_anew_and_not_sent_again(bench, damage):
    damage(bench.store.path("reports/2.25.9001.dcm"))
    bench.pacs.sends = Script([HeaderError("2.25.9001.dcm is not a DICOM file that can be sent")])
    assert bench.deliver().state == "failed"

    assert retries.revive_deliveries(bench.database) == 0
    assert retries.needs_analysis(bench.database, "2.25.1")
    assert len(retries.retry_failed(bench.database, model_version="v1", now=MORNING)) == 1
    assert not retries.needs_analysis(bench.database, "2.25.1")


def test_a_missing_report_file_is_visible_and_not_retried_for_ever(bench):
    bench.store.path("reports/2.25.9001.dcm").unlink()

    row = bench.deliver()

    assert row.state == "failed"
    assert "missing from the store" in row.reason


def test_a_destination_that_was_removed_from_the_settings_is_visible(bench):
    other = bench.add(2, destination="gone")

    row = bench.deliver(other)

    assert (row.state, "no longer among the destinations" in row.reason) == ("failed", True)


@pytest.mark.parametrize("confirm", ["find", "store"])
def test_without_commitment_a_query_or_the_answer_to_the_c_store_confirms(tmp_path, confirm):
    bench = Bench(tmp_path, confirm)
    bench.add()

    row = bench.deliver()

    assert (row.state, row.confirmed_by, bench.pacs.asked) == ("committed", confirm, [])
    bench.database.close()


def test_a_report_that_c_find_does_not_name_yet_is_asked_for_again_and_at_last_sent_again(tmp_path):
    bench = Bench(tmp_path, "find")
    bench.add()
    bench.pacs.finds = Script([False])
    assert bench.deliver().state == "sent"
    for _ in range(200):
        bench.clock.advance(5)
        if bench.due():
            bench.deliver()

    assert len(bench.pacs.sent) >= 2
    bench.pacs.finds = Script([True])
    bench.clock.advance(600)
    bench.deliver()
    assert bench.row().state == "committed"
    bench.database.close()


class Crash(BaseException):
    """As good as `kill -9`."""


@pytest.mark.parametrize("at", ["sends", "answers"])
def test_a_sender_that_was_killed_leaves_a_delivery_that_somebody_else_finishes(bench, at):
    setattr(bench.pacs, at, Script([Crash()]))
    with pytest.raises(Crash):
        bench.deliver()
    assert bench.due() == ()

    bench.clock.advance(RULE.lease_seconds + 1)
    delivery_states.release_expired(bench.database, now=bench.clock(), limit=10)
    setattr(bench.pacs, at, Script([None]))
    bench.pacs.answers = Script([commits])
    assert bench.due() == (1,)

    assert bench.deliver().state == "committed"


def test_of_two_messages_at_once_one_sends(bench):
    bench.pacs.answers = Script([commits])
    barrier = threading.Barrier(2)

    def run():
        barrier.wait()
        deliver(1, bench.parts)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert bench.pacs.sent == ["2.25.9001"]


def test_a_destination_gets_no_more_associations_than_its_share(bench):
    ids = [1, bench.add(2), bench.add(3)]
    held = [delivery_states.claim(bench.database, each, RULE, now=bench.clock()) for each in ids]

    assert [each is not None for each in held] == [True, True, False]
    assert delivery_states.claim(bench.database, 3, RULE, now=bench.clock() + timedelta(seconds=301)) is not None


def test_who_lost_a_delivery_changes_nothing(bench):
    held = delivery_states.claim(bench.database, 1, RULE, now=bench.clock())
    bench.clock.advance(RULE.lease_seconds + 1)
    delivery_states.release_expired(bench.database, now=bench.clock(), limit=10)
    delivery_states.give_up(bench.database, held, "too late", now=bench.clock())

    assert bench.row().state == "pending"
