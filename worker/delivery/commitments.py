"""What a PACS's storage commitment answer does to the deliveries that it is about (PS3.4 Annex J)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_io.receive.listener_settings import AllowedCaller
from dicom_io.types import CommitmentReport, Peer
from worker.db.events import record
from worker.db.tables import OBJECT_NAMES, Delivery, Report
from worker.study.outcomes import shortened

FAILURE_WORDS = {
    0x0110: "processing failure",
    0x0112: "it does not have the object",
    0x0119: "the object is of another SOP class there",
    0x0122: "it does not commit this SOP class",
    0x0131: "it has seen this transaction before",
    0x0213: "its resources are exhausted",
}
"""Failure Reason (0008,1197) in words, PS3.3 C.14.1.1."""


def believed_from(answerers: Mapping[str, Sequence[AllowedCaller]], peer: Peer) -> frozenset[str]:
    """Return the destinations that a peer may answer for. Names of hosts are looked up: not within a transaction."""
    return frozenset(
        name
        for name, callers in answerers.items()
        if any(caller.admits(peer.ae_title, peer.address) for caller in callers)
    )


def hear(
    session: Session,
    report: CommitmentReport,
    peer: Peer,
    *,
    believed: Collection[str],
    now: datetime,
    backoff: Callable[[int], float],
) -> str | None:
    """Settle what a peer answers on an association of its own; return why it is not believed, None where it is.

    Whoever learns a Transaction UID could otherwise have a report counted as safe that the PACS never stored. The
    study's trace and its delivery say who was refused.

    Parameters
    ----------
    session, report, now, backoff
        As of `settle`.
    peer : dicom_io.types.Peer
        Who answers.
    believed : collection of str
        The names of the destinations that this peer may answer for.
    """
    wanted = select(Delivery).filter_by(transaction_uid=report.transaction_uid).order_by(Delivery.id)
    foreign = [each for each in session.scalars(wanted.with_for_update()) if each.destination not in believed]
    if not foreign:
        settle(session, report, now, backoff)
        return None
    reason = shortened(
        f"a storage commitment result for {foreign[0].destination} came from {peer.ae_title} at {peer.address}, "
        "which is not that destination, and was refused"
    )
    for delivery in foreign:
        # The same peer again is one event, not a thousand.
        if delivery.state in ("sending", "sent") and delivery.reason != reason:
            delivery.reason = reason
            _trace(session, "commitment_refused", delivery, now, ae_title=peer.ae_title, address=peer.address)
    return reason


def settle(session: Session, report: CommitmentReport, now: datetime, backoff: Callable[[int], float]) -> int:
    """Commit, or queue again, the deliveries of a transaction; return how many changed.

    A delivery changes only where both its transaction and its SOP Instance UID are named. The answer may arrive
    before the sender has noted that it asked, on another association and in another process: a delivery is therefore
    settled in whatever state it is, and its claim is taken away, so that the sender's own late note finds nothing.

    - Committed: final. A later failure under the same transaction does not undo it.
    - Failed: pending again after a back-off; the object is sent anew. The same failure twice counts once.
    - No delivery of ours: recorded as an event, nothing else. A PACS may answer for what was deleted here.
    """
    deliveries = session.scalars(
        select(Delivery).filter_by(transaction_uid=report.transaction_uid).order_by(Delivery.id).with_for_update()
    ).all()
    failures = dict(report.failed)
    committed = set(report.committed) - set(failures)
    changed = 0
    for delivery in deliveries:
        if delivery.sop_instance_uid in committed:
            changed += _commit(session, delivery, now)
        elif delivery.sop_instance_uid in failures:
            changed += _queue_again(session, delivery, failures[delivery.sop_instance_uid], now, backoff)
    if not {delivery.sop_instance_uid for delivery in deliveries} & (committed | set(failures)):
        record(session, "commitment_unknown", now, transaction_uid=report.transaction_uid)
    return changed


def _commit(session: Session, delivery: Delivery, now: datetime) -> bool:
    if delivery.state == "committed":
        return False
    _release(delivery)
    delivery.state = "committed"
    delivery.sent_at = delivery.sent_at or now
    delivery.committed_at = now
    delivery.confirmed_by = "commitment"
    delivery.reason = None
    _trace(session, "committed", delivery, now)
    return True


def _queue_again(
    session: Session, delivery: Delivery, failure: int, now: datetime, backoff: Callable[[int], float]
) -> bool:
    # Pending already: this failure was heard before, or the object is on its way again.
    if delivery.state not in ("sending", "sent"):
        return False
    _release(delivery)
    words = FAILURE_WORDS.get(failure, "it gives no known reason")
    delivery.state = "pending"
    delivery.next_attempt_at = now + timedelta(seconds=backoff(delivery.attempts))
    delivery.commitment_requested_at = None
    delivery.reason = f"{delivery.destination} did not commit the {_name(delivery)}: {words} (0x{failure & 0xFFFF:04X})"
    _trace(session, "commitment_failed", delivery, now, failure_reason=failure)
    return True


def _release(delivery: Delivery) -> None:
    delivery.lease_token = None
    delivery.lease_until = None
    delivery.next_attempt_at = None


def _name(delivery: Delivery) -> str:
    return OBJECT_NAMES["report" if delivery.companion is None else delivery.companion.kind]


def _trace(session: Session, kind: str, delivery: Delivery, now: datetime, **detail: object) -> None:
    report = delivery.companion.report if delivery.companion else session.get_one(Report, delivery.report_id)
    if delivery.companion is not None:
        detail["object"] = _name(delivery)
    record(
        session,
        kind,
        now,
        study_id=report.job.study_id,
        job_id=report.job_id,
        destination=delivery.destination,
        **detail,
    )
