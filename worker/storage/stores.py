"""The one place that opens a site's store, whichever kind it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_io.store.stores import Store, open_store

if TYPE_CHECKING:
    from worker.settings.settings import Settings


def store_of(settings: Settings) -> Store:
    """Return the store that the site has chosen. Nothing is opened yet.

    Raises
    ------
    dicom_io.errors.StoreError
        The packages for object storage are not installed.
    """
    return open_store(settings.store, settings.minimum_free_bytes, settings.object_storage())
