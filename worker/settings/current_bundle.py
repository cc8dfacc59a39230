"""Where a home keeps its bundles, and which of them are used. Light, for every command asks it.

<home>/bundles/<version>/        every bundle that was ever installed
<home>/bundles/current           a link to one of them; without it the bundle that ships is in use
<home>/bundles/shadow            a link to one that is asked about the same images; nobody gets its answers
<home>/bundles/promotions.jsonl  who had which used, and when
"""

from __future__ import annotations

import os
from pathlib import Path


def bundles_of(home: Path) -> Path:
    """Return the folder of a home's bundles."""
    return home / "bundles"


def link_of(home: Path) -> Path:
    """Return the link to the current one."""
    return bundles_of(home) / "current"


def shadow_link_of(home: Path) -> Path:
    """Return the link to the one in shadow."""
    return bundles_of(home) / "shadow"


def record_of(home: Path) -> Path:
    """Return the record of promotions, one JSON object a line."""
    return bundles_of(home) / "promotions.jsonl"


def current_bundle(home: Path) -> Path | None:
    """Return the folder of the home's current bundle; None only where nothing has that name.

    The link is followed here, so that a bundle that is read file after file is one bundle to its end. What else lies
    there is returned too: whoever loads it finds out what is wrong, and the bundle that ships never answers instead.
    """
    return _target(link_of(home))


def shadow_bundle(home: Path) -> Path | None:
    """Return the folder of the bundle in shadow, None where there is none."""
    return _target(shadow_link_of(home))


def _target(link: Path) -> Path | None:
    return Path(os.path.realpath(link)) if link.is_symlink() or link.exists() else None
