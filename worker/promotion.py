"""Make a bundle the current one of a home: copied there, checked, recorded, and named by one atomic change."""

from __future__ import annotations

import getpass
import json
import os
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from models.bundle import load_bundle
from models.manifest import MANIFEST_NAME, SHIPPED, read_manifest
from models.types import BundleError
from worker.current_bundle import bundles_of, current_bundle, link_of, record_of


@dataclass(frozen=True, slots=True)
class Promotion:
    """One line of the record; `before` is None where the bundle in use until then could not be read."""

    at: str
    by: str
    before: str | None
    after: str


def promote(folder: Path, home: Path, at: datetime) -> Promotion:
    """Make a bundle current.

    1. Load it: checksums, tensors, everything that a worker would meet.
    2. Copy it to the home under its version, whole or not at all.
    3. Record who does what; a change without a record must not be.
    4. Change the link. Workers take the bundle up before their next study.

    Raises
    ------
    models.types.BundleError
        The bundle cannot be used, or the one that the home has under this version is damaged.
    OSError
        The home cannot be written to.
    """
    version = load_bundle(folder).version
    kept = bundles_of(home) / version
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        _copy(folder, kept)
    load_bundle(kept)
    promotion = Promotion(at.isoformat(timespec="seconds"), user(), _version_in_use(home), version)
    with record_of(home).open("a", encoding="utf-8") as record:
        record.write(json.dumps(asdict(promotion)) + "\n")
        record.flush()
        os.fsync(record.fileno())
    _link(link_of(home), version)
    return promotion


def _version_in_use(home: Path) -> str | None:
    try:
        return read_manifest(current_bundle(home) or SHIPPED).version
    except BundleError:  # damaged or gone: a reason to promote another, not an obstacle to it
        return None


def _copy(folder: Path, kept: Path) -> None:
    """Copy what the manifest names and the card, nothing else that may lie there."""
    part = kept.with_name(f"{kept.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name in (*read_manifest(folder).files, MANIFEST_NAME, "README.md"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, part / name)
    part.rename(kept)


def _link(link: Path, target: str) -> None:
    fresh = link.with_name(f"{link.name}.part")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target, target_is_directory=True)
    fresh.replace(link)


def user() -> str:
    """Return the name of the operating system's user, or the number where it has no name (as in containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
