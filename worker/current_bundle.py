"""Where a home keeps its bundles, and which of them is current. Light, for every command asks it.

<home>/bundles/<version>/        every bundle that was ever made current
<home>/bundles/current           a link to one of them; without it the bundle that ships is in use
<home>/bundles/promotions.jsonl  who made which current, and when
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


def record_of(home: Path) -> Path:
    """Return the record of promotions, one JSON object a line."""
    return bundles_of(home) / "promotions.jsonl"


def current_bundle(home: Path) -> Path | None:
    """Return the folder of the home's current bundle; None only where nothing has that name.

    The link is followed here, so that a bundle that is read file after file is one bundle to its end. What else lies
    there is returned too: whoever loads it finds out what is wrong, and the bundle that ships never answers instead.
    """
    link = link_of(home)
    return Path(os.path.realpath(link)) if link.is_symlink() or link.exists() else None
