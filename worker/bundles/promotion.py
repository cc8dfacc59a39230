"""Make a bundle a home's current one, or the one in shadow: copied, checked, recorded, named by one atomic change."""

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
from worker.db.person import user
from worker.settings.current_bundle import bundles_of, current_bundle, link_of, record_of, shadow_bundle, shadow_link_of

CURRENT, SHADOW = "current", "shadow"


@dataclass(frozen=True, slots=True)
class Promotion:
    """One line of the record. `role` is what the bundle is used for: current, or shadow.

    `before` is None where nothing had that role, or what had it could not be read; `after` where nothing has it now.
    """

    at: str
    by: str
    before: str | None
    after: str | None
    role: str = CURRENT


Record = Callable[[Promotion], None]


def install(folder: Path, home: Path) -> str:
    """Copy a bundle to the home under its version and return that; nothing uses it yet.

    Raises as `promote` does.
    """
    return _keep(folder, home)


def _nowhere(_: Promotion) -> None:
    """Keep no record but the home's file."""


def promote(folder: Path, home: Path, at: datetime, record: Record = _nowhere) -> Promotion:
    """Make a bundle current.

    1. Load it: checksums, tensors, everything that a worker would meet.
    2. Copy it to the home under its version, whole or not at all.
    3. Record who does what, in the home's file and by `record` (in SQL); a change without a record must not be.
    4. Change the link. Workers take the bundle up before their next study. It runs in shadow no longer.

    The bundle that ships is not copied and the link goes: a copy would outlive the next version's bundle.

    Raises
    ------
    models.types.BundleError
        The bundle cannot be used or holds symbolic links, what the home has under this version is damaged or
        another bundle, or a folder stands where the link belongs.
    OSError
        The home cannot be written to.
    """
    link = _checked(link_of(home))
    shipped = folder == SHIPPED
    version = load_bundle(SHIPPED).version if shipped else _keep(folder, home)
    promotion = Promotion(_words(at), user(), _version_in_use(home), version)
    _record(home, promotion, record)
    if shipped:
        link.unlink(missing_ok=True)
    else:
        _link(link, version)
    if version == _version_in_shadow(home):
        end_shadow(home, at, record)
    return promotion


def run_in_shadow(folder: Path, home: Path, at: datetime, record: Record = _nowhere) -> Promotion:
    """Let a bundle run in shadow, in the steps of `promote`: what is pushed from then on is shown to it as well.

    Raises
    ------
    models.types.BundleError
        As `promote`, and where the bundle is the current one.
    OSError
        The home cannot be written to.
    """
    link = _checked(shadow_link_of(home))
    version = _keep(folder, home)
    if version == _version_in_use(home):
        raise BundleError(f"{version} is the current bundle: there is nothing to compare it with")
    promotion = Promotion(_words(at), user(), _version_in_shadow(home), version, SHADOW)
    _record(home, promotion, record)
    _link(link, version)
    return promotion


def end_shadow(home: Path, at: datetime, record: Record = _nowhere) -> Promotion | None:
    """Let no bundle run in shadow; return None where none did."""
    link = shadow_link_of(home)
    if not link.is_symlink():
        return None
    promotion = Promotion(_words(at), user(), _version_in_shadow(home), None, SHADOW)
    _record(home, promotion, record)
    link.unlink()
    return promotion


def _checked(link: Path) -> Path:
    if link.is_dir() and not link.is_symlink():
        raise BundleError(f"{link} is a folder, not a link: move it away and try again")
    return link


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


def _words(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _record(home: Path, promotion: Promotion, record: Record) -> None:
    record_of(home).parent.mkdir(parents=True, exist_ok=True)
    with record_of(home).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(promotion)) + "\n")
        file.flush()
        os.fsync(file.fileno())
    record(promotion)


def _version_in_use(home: Path) -> str | None:
    return _readable_version(current_bundle(home) or SHIPPED)


def _version_in_shadow(home: Path) -> str | None:
    folder = shadow_bundle(home)
    return None if folder is None else _readable_version(folder)


def _readable_version(folder: Path) -> str | None:
    try:
        return read_manifest(folder).version
    except BundleError:  # damaged or gone: a reason to name another, not an obstacle to it
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
