"""The keys of a query for studies and series and what is read of the answers, which come from outside (PS3.4 C.6.2.1).

The same for C-FIND and for QIDO-RS, whose keys have the names and values of C-FIND's (PS3.18 8.3.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from typing import Protocol

from pydicom.dataset import Dataset

from dicom_io.archive.archive import FoundPage, FoundStudy, StudyQuery
from dicom_io.header import text as header_text
from dicom_io.uids import is_safe_uid

END_OF_SECOND = ".999999"


@dataclass(frozen=True, slots=True)
class Matches:
    """What was answered, each study or series once; `complete` is False where there is more."""

    data_sets: tuple[Dataset, ...]
    complete: bool


class Questions(Protocol):
    """A way to ask an archive; errors are of the PeerError family."""

    def studies(self, keys: dict[str, str], limit: int) -> Matches:
        """Return the answers to a question for studies, `limit` at most."""

    def series(self, study_instance_uid: str) -> tuple[Dataset, ...]:
        """Return the answers to a question for all series of a study."""


def find_page(questions: Questions, query: StudyQuery, limit: int) -> FoundPage:
    """Return the studies that match, `limit` at most.

    1. A question for each modality, since matching a list of them is optional (PS3.4 C.2.2.2).
    2. Where body parts are asked for, or the archive ignores the modality (an optional key), a question for the series
       of each study. A study without any answer is kept: its retrieval says what has become of it.
    """
    found: dict[str, tuple[FoundStudy, Dataset]] = {}
    complete, asked = True, 0
    for modality in query.modalities or ("",):
        matches = questions.studies(study_keys(query, modality), limit)
        asked += 1
        complete = complete and matches.complete
        for match in matches.data_sets:
            study = read_study(match)
            if study is not None and not _modality_differs(match, query.modalities):
                found.setdefault(study.study_instance_uid, (study, match))
    kept = []
    for uid, (study, match) in list(found.items())[:limit]:
        if query.body_parts or (query.modalities and not text_of(match, "ModalitiesInStudy")):
            asked += 1
            series = questions.series(uid)
            if series and not any(_fits(each, query) for each in series):
                continue
        kept.append(study)
    return FoundPage(tuple(kept), complete and len(found) <= limit, asked)


def study_keys(query: StudyQuery, modality: str = "") -> dict[str, str]:
    """Return the matching and return keys of a question for studies; empty text asks for the value."""
    return {
        "StudyInstanceUID": "",
        "StudyDate": _span(_day(query.first), _day(query.last)),
        "StudyTime": _span(_from(query.first_time), _to(query.last_time)),
        "ModalitiesInStudy": modality,
        "NumberOfStudyRelatedInstances": "",
    }


def series_keys(study_instance_uid: str) -> dict[str, str]:
    """Return the keys of a question for all series of a study."""
    return {"StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": "", "Modality": "", "BodyPartExamined": ""}


def identifier(level: str, keys: dict[str, str]) -> Dataset:
    """Return keys as the identifier of a C-FIND, C-GET or C-MOVE (PS3.4 C.4.1.1.3)."""
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds


def read_study(match: Dataset) -> FoundStudy | None:
    """Read an answer; None where it names no study."""
    uid = text_of(match, "StudyInstanceUID")
    if not is_safe_uid(uid):
        return None
    moment = header_text.time(text_of(match, "StudyTime")).partition(".")[0]
    number = text_of(match, "NumberOfStudyRelatedInstances")
    return FoundStudy(
        uid,
        study_date=header_text.date(text_of(match, "StudyDate")) or None,
        study_time=moment.ljust(6, "0") if moment else None,
        number_of_instances=int(number) if _digits(number) and len(number) < 10 else None,
    )


def text_of(match: Dataset, keyword: str) -> str:
    """Return a value as text, several with backslashes between them; empty where there is none that can be read."""
    try:
        value = match.get(keyword)
        if value is None:
            return ""
        # Several values are a sequence of pydicom's own type, which is no list.
        parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
        return "\\".join(str(part).strip(" \0") for part in parts)
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError, OverflowError):
        return ""  # what pydicom raises for a value that is not what its representation says


def _modality_differs(match: Dataset, modalities: tuple[str, ...]) -> bool:
    """Say whether a study's answer itself rules the modalities out; one that does not say may have any."""
    said = {part for part in text_of(match, "ModalitiesInStudy").split("\\") if part}
    return bool(modalities and said) and said.isdisjoint(modalities)


def _fits(series: Dataset, query: StudyQuery) -> bool:
    modality = text_of(series, "Modality")
    if query.modalities and modality and modality not in query.modalities:
        return False
    return not query.body_parts or text_of(series, "BodyPartExamined") in ("", *query.body_parts)


def _span(first: str, last: str) -> str:
    """Write a range (PS3.4 C.2.2.2.5); one value where both ends are the same."""
    if first == last:
        return first
    return f"{first}-{last}"


def _day(day: date | None) -> str:
    return "" if day is None else f"{day:%Y%m%d}"


def _from(moment: time | None) -> str:
    """Write the beginning of a range without the zeros at its end, which a time on record may lack too (PS3.5 6.2)."""
    if moment is None:
        return ""
    text = f"{moment:%H%M%S}"
    return text.removesuffix("00").removesuffix("00") or "00"


def _to(moment: time | None) -> str:
    return "" if moment is None else f"{moment:%H%M%S}{END_OF_SECOND}"


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
