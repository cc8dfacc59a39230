"""A day of an archive, page by page."""

from datetime import date, time

from dicom_io.archive.archive import FoundPage, FoundStudy, StudyQuery
from dicom_io.archive.days import pages_of_day

DAY = date(2024, 1, 2)


class Held:
    """An archive that holds studies at these times; it heeds them in a question, or not."""

    def __init__(self, *moments: str, heeds_time: bool = True) -> None:
        self.studies = [FoundStudy(f"2.25.{n}", "20240102", each) for n, each in enumerate(moments)]
        self.heeds_time = heeds_time
        self.asked = 0

    def find(self, query: StudyQuery, limit: int) -> FoundPage:
        assert (query.first, query.last) == (DAY, DAY)
        self.asked += 1
        first, last = query.first_time or time.min, query.last_time or time.max
        inside = [
            each for each in self.studies if not self.heeds_time or first <= time.fromisoformat(each.study_time) <= last
        ]
        return FoundPage(tuple(inside[:limit]), len(inside) <= limit)


def test_a_day_of_one_page_is_one_question():
    archive = Held("081500", "093000")
    (page,) = pages_of_day(archive, StudyQuery(), DAY, 2)
    assert (len(page.studies), page.complete, archive.asked) == (2, True, 1)


def test_a_day_with_more_than_a_page_is_split_by_the_time_of_day():
    archive = Held(*(f"{hour:02}{minute:02}00" for hour in range(24) for minute in range(60)))
    pages = list(pages_of_day(archive, StudyQuery(), DAY, 50))
    assert all(page.complete and len(page.studies) <= 50 for page in pages)
    assert {each for page in pages for each in page.studies} == set(archive.studies)
    assert archive.asked < 150


def test_more_than_a_page_in_one_second_is_not_passed_over_in_silence():
    pages = list(pages_of_day(Held(*["101112"] * 5), StudyQuery(), DAY, 4))
    assert not pages[-1].complete


def test_an_archive_that_ignores_the_time_of_day_is_not_asked_for_ever():
    archive = Held(*["101112"] * 5, "201112", heeds_time=False)
    assert not list(pages_of_day(archive, StudyQuery(), DAY, 4))[-1].complete
    assert archive.asked <= 3
