"""The one way in: for what is sent to the listener, what an archive hands over, and what a person uploads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_io.receive.reception import Reception
from worker.delivery.rule import DeliveryRule
from worker.reception.intake import SqlIntake
from worker.storage.stores import store_of

RECEPTION_SECONDS = 4.0
"""How long the listener waits for its database, once for an object: a sender hears "later" before five are over."""

if TYPE_CHECKING:
    from worker.db.database import Database
    from worker.settings.settings import Settings


def build_reception(settings: Settings, database: Database) -> Reception:
    """Return the way in for what does not come through the listener's port; the listener has its own, of the same."""
    return Reception(store_of(settings), build_intake(settings, database))


def build_intake(settings: Settings, database: Database) -> SqlIntake:
    """Return the way into the database."""
    rule = DeliveryRule(backoff_seconds=settings.delivery_backoff_seconds)
    return SqlIntake(database, settings.scope(), rule.backoff, answerers=settings.answerers())
