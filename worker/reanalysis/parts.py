"""What a re-analysis over an archive works with, and what it may cost the archive and the disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dicom_io.archive.archive import Archive, Receive

MOST_ATTEMPTS = 4
"""How often a study's retrieval is tried in one run."""


@dataclass(frozen=True, slots=True)
class ArchiveRule:
    """Limits: requests a minute, retrievals at once, bytes that retrieved files may hold here, studies a page."""

    queries_a_minute: int = 60
    retrievals_a_minute: int = 60
    at_once: int = 2
    copy_bytes: int = 20 * 1024**3
    page: int = 1000


@dataclass(frozen=True, slots=True)
class ArchiveParts:
    """The archive, who takes what it hands over, the limits, and how to wait for seconds."""

    archive: Archive
    receive: Receive
    rule: ArchiveRule = field(default_factory=ArchiveRule)
    wait: Callable[[float], None] = time.sleep
