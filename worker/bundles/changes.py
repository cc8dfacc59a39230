"""Which bundles a home holds, and the record in SQL of who had another one used."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from models.manifest import SHIPPED, read_manifest
from models.types import BundleError
from worker.bundles.promotion import Promotion
from worker.db.columns import truncated_to_columns
from worker.db.database import Database
from worker.db.tables import BundleChange
from worker.settings.current_bundle import bundles_of, current_bundle, shadow_bundle


@dataclass(frozen=True, slots=True)
class HeldBundle:
    """A bundle that a home can use; `obstacle` says in words why it cannot be read."""

    version: str
    folder: Path
    current: bool
    shadow: bool
    shipped: bool
    obstacle: str | None = None


def held_bundles(home: Path) -> tuple[HeldBundle, ...]:
    """Return the bundle that ships and those that were installed, by version.

    Manifests are read; the weights' checksums are looked at when a bundle is loaded (`bonewatch doctor`, a worker).
    """
    current, shadow = current_bundle(home), shadow_bundle(home)
    folders = sorted(path for path in bundles_of(home).glob("*") if path.is_dir() and not path.is_symlink())
    whole = [folder for folder in folders if folder.suffix != ".part"]
    return tuple(_held(folder, current, shadow) for folder in (SHIPPED, *whole))


def _held(folder: Path, current: Path | None, shadow: Path | None) -> HeldBundle:
    roles = (folder == (current or SHIPPED), folder == shadow, folder == SHIPPED)
    try:
        return HeldBundle(read_manifest(folder).version, folder, *roles)
    except BundleError as error:
        return HeldBundle(folder.name, folder, *roles, str(error))


def record_change(database: Database, promotion: Promotion) -> None:
    """Write a promotion to SQL.

    Raises
    ------
    worker.errors.DatabaseError
        When the database cannot take it.
    """
    values = truncated_to_columns(
        BundleChange,
        at=datetime.fromisoformat(promotion.at),
        changed_by=promotion.by,
        host=socket.gethostname(),
        role=promotion.role,
        before_version=promotion.before,
        after_version=promotion.after,
    )
    with database.write() as session:
        session.add(BundleChange(**values))


def history(database: Database, limit: int) -> Sequence[BundleChange]:
    """Return the newest changes, of all machines."""
    with database.read() as session:
        return session.scalars(select(BundleChange).order_by(BundleChange.id.desc()).limit(limit)).all()
