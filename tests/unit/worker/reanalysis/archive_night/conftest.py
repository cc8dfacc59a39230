"""An archive, and what a run over it works with."""

from __future__ import annotations

import pytest

from tests.archive_nights import NEW
from tests.fakes_archive import FakeArchive
from tests.fakes_worker import FakeStore
from worker.reanalysis.limits import ReanalysisCollaborators, ReanalysisRule
from worker.reanalysis.parts import ArchiveParts, ArchiveRule


@pytest.fixture
def archive(database):
    return FakeArchive(database)


@pytest.fixture
def parts(database, clock, archive, tmp_path):
    rule = ArchiveRule(queries_a_minute=6000, retrievals_a_minute=6000, at_once=1, page=10)
    ways = ArchiveParts(archive, lambda _: 0, rule, clock.advance)
    return ReanalysisCollaborators(database, lambda: NEW, ReanalysisRule(), clock, FakeStore(tmp_path), ways)
