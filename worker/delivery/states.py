"""The transactions of a delivery: each changes one row, on condition that it is still ours."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from dicom_io.send.sender import SendReceipt
from dicom_io.types import CommitmentReport, ReportReference
from worker.db.database import Database, changed_rows
from worker.db.events import record
from worker.db.leases import FREE, Lease, is_free
from worker.db.tables import Delivery, Job, Report, Study
from worker.delivery.claim import DeliveryClaim, report_id
from worker.delivery.commitments import settle
from worker.delivery.rule import DeliveryRule
from worker.study.outcomes import shortened

UNREACHABLE = "not reached: "
"""How the reason of a delivery begins that waits for its destination to answer at all."""
REPORT_UNUSABLE = "the report's file "
"""How the reason of a failed delivery begins where sending again cannot help: the study needs a new report."""
SENDER_LOST = "the sender was lost on the way (killed or restarted); it is sent again"


def claim(database: Database, delivery_id: int, rule: DeliveryRule, *, now: datetime) -> DeliveryClaim | None:
    """Take a delivery that is due, unless its destination already has as many associations as it gets."""
    lease = Lease(Delivery, delivery_id, f"delivery {delivery_id}", rule.lease_seconds)
    destination = select(Delivery.destination).where(Delivery.id == delivery_id).scalar_subquery()
    with database.write() as session:
        if session.get_bind().dialect.name == "postgresql":
            # Claims for one destination count one after the other; SQLite has one writer anyway.
            session.execute(select(func.pg_advisory_xact_lock(func.hashtext(destination))))
        busy = (
            select(func.count())
            .select_from(Delivery)
            .where(Delivery.destination == destination, ~is_free(Delivery, now))
        )
        if (session.scalar(busy) or 0) >= rule.maximum_parallel:
            return None
        changed = changed_rows(
            session,
            update(Delivery)
            .where(Delivery.id == delivery_id, is_due(now))
            .values(
                attempts=case((Delivery.state == "pending", Delivery.attempts + 1), else_=Delivery.attempts),
                state=case((Delivery.state == "pending", "sending"), else_=Delivery.state),
                **lease.taken(now),
            ),
        )
        return _claim_of(session, lease) if changed else None


def _claim_of(session: Session, lease: Lease) -> DeliveryClaim:
    delivery, report, study = session.execute(
        select(Delivery, Report, Study)
        .select_from(Delivery)
        .join(Report, Report.id == report_id())
        .join(Report.job)
        .join(Job.study)
        .where(Delivery.id == lease.row_id)
        .execution_options(populate_existing=True)
    ).one()
    made = delivery.companion or report
    reference = ReportReference(
        delivery.sop_class_uid or made.sop_class_uid or "",
        delivery.sop_instance_uid or made.sop_instance_uid or "",
        made.series_instance_uid or "",
        study.study_instance_uid,
    )
    return DeliveryClaim(
        delivery_id=lease.row_id,
        lease=lease,
        state=delivery.state,
        destination=delivery.destination,
        path=made.path or "",
        reference=reference,
        attempts=delivery.attempts,
        study_id=study.id,
        job_id=report.job_id,
        transaction_uid=delivery.transaction_uid,
        sent_at=delivery.sent_at,
        kind="report" if delivery.companion is None else delivery.companion.kind,
    )


def is_due(now: datetime) -> ColumnElement[bool]:
    """Return the condition that something is to be done for a delivery and nobody is doing it."""
    ripe = or_(Delivery.next_attempt_at.is_(None), Delivery.next_attempt_at <= now)
    return and_(Delivery.state.in_(("pending", "sent")), is_free(Delivery, now), ripe)


def due(database: Database, *, now: datetime, limit: int) -> tuple[int, ...]:
    """Return the deliveries that are due, those that have waited longest first."""
    with database.read() as session:
        order = func.coalesce(Delivery.next_attempt_at, Delivery.sent_at)
        query = select(Delivery.id).where(is_due(now)).order_by(order, Delivery.id).limit(limit)
        return tuple(session.scalars(query))


def next_due(database: Database, destination: str, *, now: datetime) -> int | None:
    """Return one delivery that is due at a destination."""
    with database.read() as session:
        query = select(Delivery.id).where(Delivery.destination == destination, is_due(now)).order_by(Delivery.id)
        return session.scalar(query.limit(1))


def release_expired(database: Database, *, now: datetime, limit: int) -> int:
    """Take back the deliveries whose sender was lost; return how many."""
    with database.write() as session:
        lost = select(Delivery.id).where(Delivery.state == "sending", Delivery.lease_until < now).limit(limit)
        return changed_rows(
            session,
            update(Delivery)
            .where(Delivery.id.in_(lost), Delivery.state == "sending", Delivery.lease_until < now)
            .values(_FREE | {"state": "pending", "reason": SENDER_LOST})
            .execution_options(synchronize_session=False),
        )


def note_sent(
    database: Database, held: DeliveryClaim, receipt: SendReceipt, *, final: bool, rule: DeliveryRule, now: datetime
) -> DeliveryClaim | None:
    """Write down what the PACS took; None where nothing is left to do or the delivery is no longer ours.

    With `final` the C-STORE's answer is taken as the last word. Once one report got through, those that were held
    back because the destination did not answer are due again.
    """
    with database.write() as session:
        values: dict[str, object] = {
            "state": "sent",
            "sent_at": now,
            "sop_class_uid": receipt.reference.sop_class_uid,
            "sop_instance_uid": receipt.reference.sop_instance_uid,
            # A crash before the question goes out leaves this: the next to come asks.
            "next_attempt_at": None,
            "reason": receipt.note,
        }
        if final:
            values |= {"state": "committed", "committed_at": now, "confirmed_by": "store", **_FREE}
        if changed_rows(session, update(Delivery).where(_is_ours(held)).values(values)) == 0:
            return None
        changed_rows(
            session,
            update(Delivery)
            .where(
                Delivery.destination == held.destination,
                Delivery.state == "pending",
                Delivery.next_attempt_at > now,
                Delivery.reason.startswith(UNREACHABLE),
            )
            .values(next_attempt_at=None)
            .execution_options(synchronize_session=False),
        )
        _trace(session, "sent", held, now, note=receipt.note)
        if final:
            _trace(session, "committed", held, now, confirmed_by="store")
            return None
        return replace(held, state="sent", reference=receipt.reference, sent_at=now)


def note_question(database: Database, held: DeliveryClaim, *, rule: DeliveryRule, now: datetime) -> DeliveryClaim:
    """Write down that storage commitment is asked for, and when to ask again.

    The Transaction UID stays the same until the PACS has answered, so that a late answer to an earlier question is
    still recognised. A claim without `transaction_uid` is returned where the delivery is no longer ours.
    """
    with database.write() as session:
        delivery = session.scalars(select(Delivery).where(_is_ours(held)).with_for_update()).first()
        if delivery is None:
            return replace(held, transaction_uid=None)
        if delivery.transaction_uid is None or delivery.commitment_requested_at is None:
            delivery.transaction_uid = f"2.25.{uuid.uuid4().int}"
        delivery.commitment_requested_at = now
        delivery.next_attempt_at = rule.next_question(delivery.sent_at or now, now)
        return replace(held, transaction_uid=delivery.transaction_uid)


def must_send_again(held: DeliveryClaim, rule: DeliveryRule, now: datetime) -> bool:
    """Say whether a sent report has waited for its confirmation for too long."""
    if held.sent_at is None:
        return True
    return now - held.sent_at >= timedelta(seconds=rule.give_up_asking_after())


def send_again(database: Database, held: DeliveryClaim, *, now: datetime) -> None:
    """Make a delivery pending that was never confirmed."""
    with database.write() as session:
        reason = f"{held.destination} never confirmed the {held.name}; it is sent again"
        values = _FREE | {"state": "pending", "reason": reason}
        if changed_rows(session, update(Delivery).where(_is_ours(held)).values(values)):
            _trace(session, "unconfirmed", held, now, reason=reason)


def commit(database: Database, held: DeliveryClaim, *, confirmed_by: str, now: datetime) -> None:
    """Note that the PACS has the report for good."""
    with database.write() as session:
        values = _FREE | {"state": "committed", "committed_at": now, "confirmed_by": confirmed_by, "reason": None}
        if changed_rows(session, update(Delivery).where(_is_ours(held)).values(values)):
            _trace(session, "committed", held, now, confirmed_by=confirmed_by)


def settle_answer(database: Database, answer: CommitmentReport, *, rule: DeliveryRule, now: datetime) -> int:
    """Take in a storage commitment answer that came on the association of the question."""
    with database.write() as session:
        return settle(session, answer, now, rule.backoff)


def release(database: Database, held: DeliveryClaim) -> None:
    """Let go of a delivery that waits for its answer."""
    held.lease.release(database)


def wait(database: Database, held: DeliveryClaim, reason: str, *, rule: DeliveryRule, now: datetime) -> None:
    """Ask again later: after as long as it has been waiting already, between the shortest and the longest pause."""
    waited = (now - held.sent_at).total_seconds() if held.sent_at else 0.0
    pause = min(max(waited, rule.backoff_seconds), rule.backoff_maximum_seconds)
    _put_off(database, held, reason, pause, now)


def postpone(database: Database, held: DeliveryClaim, reason: str, *, rule: DeliveryRule, now: datetime) -> None:
    """Try the same step again after a pause that doubles with every attempt."""
    if held.state == "sent":
        wait(database, held, reason, rule=rule, now=now)
    else:
        _put_off(database, held, reason, rule.backoff(held.attempts), now)


def _put_off(database: Database, held: DeliveryClaim, reason: str, pause: float, now: datetime) -> None:
    with database.write() as session:
        delivery = session.scalars(select(Delivery).where(_is_ours(held)).with_for_update()).first()
        if delivery is None:
            return
        if delivery.reason != shortened(reason):  # a PACS that is down all night is one event, not a thousand
            _trace(session, "delivery_postponed", held, now, reason=reason)
        delivery.state = "pending" if held.state == "sending" else "sent"
        delivery.lease_token = delivery.lease_until = None
        delivery.next_attempt_at = now + timedelta(seconds=pause)
        delivery.reason = shortened(reason)


def hold_back(database: Database, held: DeliveryClaim, reason: str, *, rule: DeliveryRule, now: datetime) -> None:
    """Let the other reports for a destination that does not answer wait with the one that found out."""
    until = now + timedelta(seconds=rule.backoff(held.attempts))
    earlier = or_(Delivery.next_attempt_at.is_(None), Delivery.next_attempt_at < until)
    with database.write() as session:
        changed_rows(
            session,
            update(Delivery)
            .where(Delivery.destination == held.destination, Delivery.state == "pending", earlier)
            .values(next_attempt_at=until, reason=shortened(reason))
            .execution_options(synchronize_session=False),
        )


def give_up(database: Database, held: DeliveryClaim, reason: str, *, now: datetime) -> None:
    """Mark a delivery as failed for good; `bonewatch retry` revives it."""
    with database.write() as session:
        values = _FREE | {"state": "failed", "reason": shortened(reason)}
        if changed_rows(session, update(Delivery).where(_is_ours(held)).values(values)):
            _trace(session, "delivery_failed", held, now, reason=reason)


_FREE: dict[str, object] = {**FREE, "next_attempt_at": None}


def _is_ours(held: DeliveryClaim) -> ColumnElement[bool]:
    return and_(Delivery.state == held.state, held.lease.is_ours)


def _trace(session: Session, kind: str, held: DeliveryClaim, now: datetime, **detail: object) -> None:
    what = {} if held.kind == "report" else {"object": held.name}
    record(
        session, kind, now, study_id=held.study_id, job_id=held.job_id, destination=held.destination, **what, **detail
    )
