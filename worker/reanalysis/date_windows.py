"""The way of a plan through an archive's study dates, in windows as large as the archive can answer.

An archive has no pages: who asks for too much at once is cut off or refused. So a plan asks for windows of time. One
that holds more than a page is halved, down to a minute; where little is found the next one is twice as large, so that
the empty years before an archive's first study take a few questions. The place and the size of the window stand in the
run's row; a window that was interrupted is asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from dicom_io.archive.archive import StudyQuery
from worker.db.tables import ReanalysisRun
from worker.reanalysis.runs import Request

DAY_MINUTES = 24 * 60
LARGEST_MINUTES = 10 * 365 * DAY_MINUTES
FIRST_RADIOGRAPH = date(1895, 11, 8)
"""No study is older."""
AHEAD = timedelta(days=2)
"""A site's today may be UTC's tomorrow; what is dated later still is a mistake of its modality."""


@dataclass(frozen=True, slots=True)
class DateWindowCursor:
    """Where a plan is: `place` is the edge of what lies behind it, times are those of the site's clocks.

    Attributes
    ----------
    place : datetime
        Going to older studies, everything from here on is planned; going to newer ones, everything before.
    minutes : int
        How large the next window is at the most.
    first, end : datetime
        The bounds of all windows, `end` itself left out.
    newest : bool
        Whether the newest studies come first.
    """

    place: datetime
    minutes: int
    first: datetime
    end: datetime
    newest: bool

    @property
    def is_over(self) -> bool:
        """Whether nothing lies ahead."""
        return self.place <= self.first if self.newest else self.place >= self.end

    def window(self) -> tuple[datetime, datetime]:
        """Return the next window, its end left out: whole days, or a part of one day."""
        span = timedelta(minutes=self.minutes)
        if self.newest:
            if self.place.time() == datetime.min.time() and self.minutes >= DAY_MINUTES:
                return max(self.place - span, self.first), self.place
            day = _midnight(self.place - timedelta(minutes=1))
            return max(self.place - span, day), self.place
        if self.place.time() == datetime.min.time() and self.minutes >= DAY_MINUTES:
            return self.place, min(self.place + span, self.end)
        return self.place, min(self.place + span, _midnight(self.place) + timedelta(days=1))

    def question(self, request: Request) -> StudyQuery:
        """Return what to ask for the next window; its edges belong to both neighbours, for a time has fractions."""
        first, end = self.window()
        last = end - timedelta(minutes=1)
        part = end - first < timedelta(days=1)
        return StudyQuery(
            first=first.date(),
            last=last.date(),
            first_time=first.time() if part and first != _midnight(first) else None,
            last_time=end.time() if part and end != _midnight(end) else None,
            modalities=request.modalities,
            body_parts=request.body_parts,
        )

    def narrowed(self) -> DateWindowCursor | None:
        """Return the same place with half the window; None where it is a minute already."""
        first, end = self.window()
        minutes = (end - first) // timedelta(minutes=1)
        if minutes <= 1:
            return None
        half = minutes // 2
        return replace(self, minutes=half - half % DAY_MINUTES if half >= DAY_MINUTES else half)

    def moved(self, *, widen: bool) -> DateWindowCursor:
        """Return the place behind the window, with twice its size ahead if `widen`."""
        first, end = self.window()
        minutes = min(2 * self.minutes, LARGEST_MINUTES) if widen else self.minutes
        if minutes > DAY_MINUTES:
            minutes -= minutes % DAY_MINUTES
        return replace(self, place=first if self.newest else end, minutes=minutes)

    def columns(self) -> dict[str, object]:
        """Return the place as columns of `reanalysis_runs`."""
        day, moment = f"{self.place:%Y%m%d}", f"{self.place:%H%M}"
        return {"cursor_date": day, "cursor_time": moment, "window_minutes": self.minutes}


def walk_of(run: ReanalysisRun, request: Request) -> DateWindowCursor:
    """Return where a run's plan is; at its beginning before the first window."""
    ahead = (run.created_at + AHEAD).date()
    first, last = request.since or FIRST_RADIOGRAPH, request.until or ahead
    newest = request.direction == "newest"
    begin, end = _midnight_of(first), _midnight_of(last) + timedelta(days=1)
    if run.cursor_date is None:
        place = end if newest else begin
    else:
        place = datetime.strptime(run.cursor_date + (run.cursor_time or "0000"), "%Y%m%d%H%M")  # noqa: DTZ007 - a site's
    return DateWindowCursor(place, run.window_minutes or DAY_MINUTES, begin, end, newest)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _midnight_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001 - DICOM's dates have no zone
