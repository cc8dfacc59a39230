"""All studies of a day, in pages: where there are more than one holds, the day is split by time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, time

from dicom_io.archive.archive import Archive, FoundPage, StudyQuery

END_OF_DAY = 24 * 60 * 60 - 1
MAXIMUM_SLICES = 1000
"""Questions about one day; an archive that needs more answers without sense."""


def pages_of_day(archive: Archive, query: StudyQuery, day: date, limit: int) -> Iterator[FoundPage]:
    """Yield the studies of a day, `limit` at most in a page; memory is bounded by a few pages.

    A study may be named by two pages. The last page is not complete where studies are missing: more than `limit` in
    one second, or an archive that pays no heed to Study Time. Of a day that is split, studies without a Study Time
    are named only where they were among the first `limit`.

    Raises
    ------
    dicom_io.errors.PeerError
        The archive does not do what is asked.
    """
    query = replace(query, first=day, last=day, first_time=None, last_time=None)
    page = archive.find(query, limit)
    if page.complete:
        yield page
        return
    yield replace(page, complete=True)
    missing, slices = False, [(0, END_OF_DAY // 2), (END_OF_DAY // 2 + 1, END_OF_DAY)]
    for _ in range(MAXIMUM_SLICES):
        if not slices:
            break
        first, last = slices.pop(0)
        page = archive.find(replace(query, first_time=_moment(first), last_time=_moment(last)), limit)
        yield replace(page, complete=True)
        if page.complete:
            continue
        if first == last or _ignores_time(page, first, last):
            missing = True
            break
        middle = (first + last) // 2
        slices[:0] = [(first, middle), (middle + 1, last)]
    if missing or slices:
        yield FoundPage((), complete=False, questions=0)


def _ignores_time(page: FoundPage, first: int, last: int) -> bool:
    return any(
        each.study_time is None or not _moment(first) <= time.fromisoformat(each.study_time) <= _moment(last)
        for each in page.studies
    )


def _moment(second: int) -> time:
    return time(second // 3600, second // 60 % 60, second % 60)
