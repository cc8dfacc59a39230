"""The one place that opens a site's store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_io.store import InstanceStore

if TYPE_CHECKING:
    from worker.settings import Settings


def store_of(settings: Settings) -> InstanceStore:
    """Return the store that the site has chosen. Nothing is opened yet."""
    return InstanceStore(settings.store, settings.minimum_free_bytes)
