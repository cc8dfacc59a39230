"""Asking a PACS for studies and series: C-FIND as SCU, Study Root (PS3.4 C.4.1), no more of the answers than wanted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from pynetdicom import build_context, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_io.archive.query import Matches, identifier, series_keys, text_of
from dicom_io.errors import PeerUnreachable
from dicom_io.network.association import ask, open_association, require_class, require_status, time_limit
from dicom_io.network.wire import Bounds, guard
from dicom_io.uids import is_safe_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.association import Association

    from dicom_io.types import Destination

FIND = str(StudyRootQueryRetrieveInformationModelFind)
UNIQUE_KEYS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}
PENDING = (0xFF00, 0xFF01)
CANCELLED = 0xFE00
SPARE_ANSWERS = 1000
"""Answers beyond the limit, doubled or unreadable ones included, that may come before a C-CANCEL is heeded."""
MAXIMUM_SERIES = 1000
MAXIMUM_PDU = 131_072
MAXIMUM_ANSWER_BYTES = 1 << 16
WAITING_ANSWERS = 500


class FindQuestions:
    """Questions on one association; implements `dicom_io.archive.query.Questions`."""

    def __init__(self, pacs: Destination, assoc: Association) -> None:
        self._pacs = pacs
        self._assoc = assoc
        self._message_id = 0

    def studies(self, keys: dict[str, str], limit: int) -> Matches:
        """Return the answers to a question for studies, `limit` at most."""
        return self._ask("STUDY", keys, limit)

    def series(self, study_instance_uid: str) -> tuple[Dataset, ...]:
        """Return the answers to a question for all series of a study."""
        answers = self._ask("SERIES", series_keys(study_instance_uid), MAXIMUM_SERIES).data_sets
        return tuple(each for each in answers if text_of(each, "StudyInstanceUID") in ("", study_instance_uid))

    def _ask(self, level: str, keys: dict[str, str], limit: int) -> Matches:
        """Ask; past the limit a C-CANCEL (PS3.7 9.3.2.3) asks for an end, and SPARE_ANSWERS later we make one."""
        self._message_id = self._message_id % 0xFFFF + 1
        matches: dict[str, Dataset] = {}
        answers, more = 0, False
        request = identifier(level, keys)
        for answer, match in ask(self._pacs, self._assoc.send_c_find, request, FIND, self._message_id):
            status = self._status(answer)
            if status not in PENDING:
                return Matches(tuple(matches.values()), status == 0 and not more)
            answers += 1
            if answers > limit + SPARE_ANSWERS:
                raise PeerUnreachable(f"{self._who} answers our C-FIND without end")
            uid = "" if match is None else text_of(match, UNIQUE_KEYS[level])
            if match is None or uid in matches or not is_safe_uid(uid):
                continue
            if len(matches) < limit:
                matches[uid] = match
            elif not more:
                more = True
                ask(self._pacs, self._assoc.send_c_cancel, self._message_id, None, FIND)
        raise PeerUnreachable(f"{self._who} broke off its answer to our C-FIND")

    def _status(self, answer: Dataset) -> int:
        return CANCELLED if answer.get("Status") == CANCELLED else require_status(self._pacs, answer, "C-FIND")

    @property
    def _who(self) -> str:
        return f"{self._pacs.name} ({self._pacs.ae_title})"


@contextmanager
def find_questions(pacs: Destination, total_seconds: float) -> Iterator[FindQuestions]:
    """Open an association to ask on; all that is asked has to be answered within `total_seconds`."""
    bounds = Bounds(
        maximum_pdu=MAXIMUM_PDU,
        maximum_instance_bytes=MAXIMUM_ANSWER_BYTES,
        network_timeout_seconds=pacs.timeout_seconds,
        message_timeout_seconds=pacs.timeout_seconds,
        waiting_messages=WAITING_ANSWERS,
        room_seconds=pacs.timeout_seconds,
    )
    handlers = [(evt.EVT_CONN_OPEN, guard, [bounds, _in_memory])]
    with open_association(pacs, [build_context(FIND)], handlers) as assoc, time_limit(pacs, assoc, total_seconds):
        require_class(pacs, assoc, FIND)
        try:
            yield FindQuestions(pacs, assoc)
        finally:
            assoc.dimse.stop_reading()


def _in_memory() -> BinaryIO:
    return io.BytesIO()  # an answer never grows so large that it needs a file
