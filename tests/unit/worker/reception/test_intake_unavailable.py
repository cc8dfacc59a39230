"""A database that cannot take what the listener brings: later, and never success."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import ProgrammingError

from dicom_io.header.scope import ScopeRule
from dicom_io.receive.intake import IntakeUnavailable
from dicom_io.types import CommitmentReport, Peer, Refusal, StoredFile
from tests.databases import header
from worker.db.database import Database
from worker.errors import DatabaseUnavailable
from worker.reception.intake import SqlIntake

PEER = Peer("PACS", "10.0.0.5")
TRANSACTION = "2.25.777"


def stored(digest="a"):
    return StoredFile(f"instances/{digest}.dcm", digest * 64, 4711)


class Broken(Database):
    """A database that answers as told."""

    def __init__(self, error):
        self._error = error

    def write(self):
        raise self._error

    read = write


@pytest.mark.parametrize(
    "error", [DatabaseUnavailable("the disk is full"), ProgrammingError("INSERT", {"patient_id": "P-1"}, Exception())]
)
def test_a_database_that_cannot_take_it_is_unavailable_and_never_success(error):
    intake = SqlIntake(Broken(error), ScopeRule(), backoff=float)
    calls = [
        lambda: intake.register(header(), stored(), PEER),
        lambda: intake.reject(Refusal("x", "y", PEER)),
        lambda: intake.known("2.25.101"),
        lambda: intake.commitment(CommitmentReport(TRANSACTION, ()), Peer("PACS", "10.0.0.5")),
    ]
    for call in calls:
        with pytest.raises(IntakeUnavailable) as caught:
            call()
        assert caught.value.retryable
        assert "P-1" not in str(caught.value)
