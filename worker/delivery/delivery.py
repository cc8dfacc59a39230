"""A report on its way to a destination: pending -> sending -> sent -> committed, or failed for good.

The row in SQL is the truth, and each step is a short transaction before or after the network is used, never around
it. Whoever is killed on the way leaves a lease that runs out; sending or asking again does no harm, because a report
has one SOP Instance UID and a PACS keeps one object of it.

    sending a second time     after a crash, a broken association, a refused commitment, or no answer for too long
    asking a second time      `commitment_timeout` after the first time, then after twice that, and so on; after
                              `commitment_attempts` questions the report is sent again
    failed                    only what waiting cannot cure: the peer refuses, the report's file is gone
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_io.errors import DicomError, HeaderError, PeerUnreachable, ReportError, StoreError
from dicom_io.send.sender import SendReceipt
from dicom_io.types import CommitmentReport, Destination, ReportReference
from worker.db.database import Database
from worker.delivery import states
from worker.delivery.claim import DeliveryClaim
from worker.delivery.rule import DeliveryRule
from worker.errors import DatabaseError
from worker.study.reports import UNMOUNTED, ReportStore

log = structlog.get_logger(__name__)

DRAIN_LIMIT = 100


class Pacs(Protocol):
    """What a destination is asked to do (`dicom_io.send.sender`, `dicom_io.send.commitment`)."""

    def send_report(self, destination: Destination, report: Path, fallback: Callable[[], Path]) -> SendReceipt:
        """Store the report, or its fallback form."""

    def send_companion(self, destination: Destination, companion: Path) -> SendReceipt:
        """Store a marked image or a presentation state."""

    def request_commitment(
        self,
        destination: Destination,
        references: Sequence[ReportReference],
        transaction_uid: str,
        wait_seconds: float,
    ) -> CommitmentReport | None:
        """Ask for storage commitment; None when the answer comes later, on an association of the PACS's own."""

    def find_instance(self, destination: Destination, reference: ReportReference) -> bool:
        """Ask whether the PACS holds an instance."""


@dataclass(frozen=True, slots=True)
class DeliveryCollaborators:
    """What deliveries work with. `fallback` makes the Comprehensive SR form of a report and returns its path."""

    database: Database
    store: ReportStore
    pacs: Pacs
    fallback: Callable[[Path], Path]
    destinations: Mapping[str, Destination]
    rule: DeliveryRule
    clock: Callable[[], datetime]


def deliver(delivery_id: int, parts: DeliveryCollaborators) -> int:
    """Advance one delivery, then whatever else is due at the same destination; return how many were taken up.

    A destination gets at most `DeliveryRule.maximum_parallel` associations at a time: one that does not answer must
    not keep every thread waiting, and with it the sweep.
    """
    due: int | None = delivery_id
    taken = 0
    while due is not None and taken < DRAIN_LIMIT:
        held = states.claim(parts.database, due, parts.rule, now=parts.clock())
        if held is None:
            break
        taken += 1
        _advance(held, parts)
        due = states.next_due(parts.database, held.destination, now=parts.clock())
    return taken


def _advance(held: DeliveryClaim, parts: DeliveryCollaborators) -> None:
    destination = parts.destinations.get(held.destination)
    if destination is None:
        reason = f"{held.destination} is no longer among the destinations (BONEWATCH_DESTINATIONS)"
        states.give_up(parts.database, held, reason, now=parts.clock())
        return
    try:
        if held.state == "sending":
            receipt = _send(held, destination, parts)
            if receipt is None:
                return
            sent = states.note_sent(
                parts.database, held, receipt, final=destination.confirm == "store", rule=parts.rule, now=parts.clock()
            )
            log.info("sent", object=held.name, destination=destination.name, delivery_id=held.delivery_id)
            if sent is None:
                return
            held = sent
        elif states.must_send_again(held, parts.rule, parts.clock()):
            states.send_again(parts.database, held, now=parts.clock())
            return
        _confirm(held, destination, parts)
    except DicomError as error:
        _handle(held, error, parts)
    except (DatabaseError, SQLAlchemyError):
        raise
    except Exception as error:  # noqa: BLE001 - a process edge: a report that waits without a reason would be silent
        # The name alone: messages and traces of foreign errors may quote what was sent.
        reason = f"unexpected error ({type(error).__name__})"
        log.error("delivery_crashed", destination=held.destination, delivery_id=held.delivery_id, reason=reason)  # noqa: TRY400
        states.postpone(parts.database, held, reason, rule=parts.rule, now=parts.clock())


def _send(held: DeliveryClaim, destination: Destination, parts: DeliveryCollaborators) -> SendReceipt | None:
    path = parts.store.path(held.path)
    if not path.is_file():
        if parts.store.is_empty():
            raise StoreError(UNMOUNTED)
        # Built again with another bundle it would be another report under the same UID: a person retries the study.
        reason = f"{_file_of(held)}is missing from the store"
        if held.kind == "report":
            reason += ": `bonewatch retry` makes a new report"
        states.give_up(parts.database, held, reason, now=parts.clock())
        return None
    if held.kind != "report":
        return parts.pacs.send_companion(destination, path)
    return parts.pacs.send_report(destination, path, lambda: parts.fallback(path))


def _file_of(held: DeliveryClaim) -> str:
    return states.REPORT_UNUSABLE if held.kind == "report" else f"the {held.name}'s file "


def _confirm(held: DeliveryClaim, destination: Destination, parts: DeliveryCollaborators) -> None:
    if destination.confirm == "find":
        if parts.pacs.find_instance(destination, held.reference):
            states.commit(parts.database, held, confirmed_by="find", now=parts.clock())
        else:
            reason = f"{destination.name} does not yet answer C-FIND with the {held.name}"
            states.wait(parts.database, held, reason, rule=parts.rule, now=parts.clock())
        return
    # The transaction is durable before the question goes out: the answer may be quicker than our next statement.
    held = states.note_question(parts.database, held, rule=parts.rule, now=parts.clock())
    if held.transaction_uid is None:
        return
    answer = parts.pacs.request_commitment(
        destination, (held.reference,), held.transaction_uid, parts.rule.commitment_wait_seconds
    )
    if answer is not None:
        states.settle_answer(parts.database, answer, rule=parts.rule, now=parts.clock())
    states.release(parts.database, held)


def _handle(held: DeliveryClaim, error: DicomError, parts: DeliveryCollaborators) -> None:
    unreachable = isinstance(error, PeerUnreachable)
    reason = f"{states.UNREACHABLE}{error}" if unreachable else str(error)
    if isinstance(error, HeaderError | ReportError):
        reason = f"{_file_of(held)}cannot be used: {error}"
    now = parts.clock()
    log.warning("delivery_failed", destination=held.destination, delivery_id=held.delivery_id, reason=error.code)
    if not error.retryable:
        states.give_up(parts.database, held, reason, now=now)
        return
    states.postpone(parts.database, held, reason, rule=parts.rule, now=now)
    if unreachable:
        states.hold_back(parts.database, held, reason, rule=parts.rule, now=now)
