"""Make a bundle the current one of a home: copied there, checked, recorded, and named by one atomic change."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from models.bundle import Bundle, load_bundle
from models.manifest import MANIFEST_NAME, SHIPPED, read_manifest
from models.types import BundleError
from worker.current_bundle import bundles_of, current_bundle, link_of, record_of
from worker.person import user


@dataclass(frozen=True, slots=True)
class Promotion:
    """One line of the record; `before` is None where the bundle in use until then could not be read."""

    at: str
    by: str
    before: str | None
    after: str


def install(folder: Path, home: Path) -> str:
    """Copy a bundle to the home under its version and return that; nothing uses it yet.

    Raises as `promote` does.
    """
    return _keep(folder, home)


def promote(folder: Path, home: Path, at: datetime, record: Callable[[Promotion], None] = lambda _: None) -> Promotion:
    """Make a bundle current.

    1. Load it: checksums, tensors, everything that a worker would meet.
    2. Copy it to the home under its version, whole or not at all.
    3. Record who does what, in the home's file and by `record` (in SQL); a change without a record must not be.
    4. Change the link. Workers take the bundle up before their next study.

    The bundle that ships is not copied and the link goes: a copy would outlive the next version's bundle.

    Raises
    ------
    models.types.BundleError
        The bundle cannot be used or holds symbolic links, what the home has under this version is damaged or
        another bundle, or a folder stands where the link belongs.
    OSError
        The home cannot be written to.
    """
    link = link_of(home)
    if link.is_dir() and not link.is_symlink():
        raise BundleError(f"{link} is a folder, not a link: move it away and promote again")
    if folder == SHIPPED:
        promotion = _record(home, at, load_bundle(SHIPPED).version)
        record(promotion)
        link.unlink(missing_ok=True)
        return promotion
    version = _keep(folder, home)
    promotion = _record(home, at, version)
    record(promotion)
    _link(link, version)
    return promotion


def _keep(folder: Path, home: Path) -> str:
    bundle = _load_without_links(folder)
    kept = bundles_of(home) / bundle.version
    kept.parent.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        _expect(kept, bundle.version)
    else:
        _copy(bundle, folder, kept)
    return bundle.version


def _load_without_links(folder: Path) -> Bundle:
    """Load a bundle that is all in its folder: a link would bring in whatever it points to, now or later."""
    links = sorted(path.name for path in folder.glob("*") if path.is_symlink())
    if links:
        raise BundleError(f"{folder} holds a symbolic link, {links[0]!r}: a bundle is plain files")
    return load_bundle(folder)


def _expect(folder: Path, version: str) -> None:
    found = _load_without_links(folder).version
    if found != version:
        raise BundleError(f"{folder} holds the bundle {found} instead of {version}: move it away and promote again")


def _record(home: Path, at: datetime, version: str) -> Promotion:
    promotion = Promotion(at.isoformat(timespec="seconds"), user(), _version_in_use(home), version)
    record_of(home).parent.mkdir(parents=True, exist_ok=True)
    with record_of(home).open("a", encoding="utf-8") as record:
        record.write(json.dumps(asdict(promotion)) + "\n")
        record.flush()
        os.fsync(record.fileno())
    return promotion


def _version_in_use(home: Path) -> str | None:
    try:
        return read_manifest(current_bundle(home) or SHIPPED).version
    except BundleError:  # damaged or gone: a reason to promote another, not an obstacle to it
        return None


def _copy(bundle: Bundle, folder: Path, kept: Path) -> None:
    """Copy what the manifest names and the card, nothing else that may lie there, and check it before it counts.

    The card is under no checksum, so it is written as it was read.
    """
    part = kept.with_name(f"{kept.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name in (*bundle.manifest.files, MANIFEST_NAME):
        shutil.copyfile(folder / name, part / name, follow_symlinks=False)
    if bundle.card:
        (part / "README.md").write_text(bundle.card, encoding="utf-8")
    _expect(part, bundle.version)
    part.rename(kept)


def _link(link: Path, target: str) -> None:
    fresh = link.with_name(f"{link.name}.part")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target, target_is_directory=True)
    fresh.replace(link)
