"""When the night is: its last beginning and its end, in the time zone of the site."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from celery.schedules import ParseException, crontab

LOOK_BACK = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class NightRule:
    """When a night begins (a crontab of five fields), in which zone, and when it ends."""

    crontab: str
    zone: str = "UTC"
    end: time | None = None


@dataclass(frozen=True, slots=True)
class Night:
    """One night; both moments in UTC."""

    start: datetime
    until: datetime


def parse_crontab(text: str) -> crontab:
    """Read the five fields of a crontab: minute, hour, day of month, month, day of week.

    Raises
    ------
    ValueError
        When they are not five, or one cannot be read.
    """
    fields = text.split()
    if len(fields) != 5:
        raise ValueError("has not five fields: minute, hour, day of month, month, day of week")
    minute, hour, day, month, weekday = fields
    try:
        return crontab(minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday)
    except (ParseException, ValueError):
        raise ValueError("has a field that cannot be read") from None


def night_of(rule: NightRule, now: datetime) -> Night | None:
    """Return the night that it is now, or None by day.

    It is found by looking back and not by waiting for its first minute: who was down then does not miss it.
    """
    zone = ZoneInfo(rule.zone)
    start = _last_start(parse_crontab(rule.crontab), now, zone)
    if start is None:
        return None
    until = start + LOOK_BACK if rule.end is None else _first_after(start, rule.end, zone)
    return Night(start, until) if now < until else None


def _last_start(schedule: crontab, now: datetime, zone: ZoneInfo) -> datetime | None:
    # Steps of UTC: the hour that the clocks leave out in spring does not exist, and that of autumn exists twice.
    moment = now.astimezone(UTC).replace(second=0, microsecond=0)
    earliest = moment - LOOK_BACK
    while moment > earliest:
        if _matches(schedule, moment.astimezone(zone)):
            return moment
        moment -= timedelta(minutes=1)
    return None


def _matches(schedule: crontab, local: datetime) -> bool:
    return (
        local.minute in schedule.minute
        and local.hour in schedule.hour
        and local.day in schedule.day_of_month
        and local.month in schedule.month_of_year
        and local.isoweekday() % 7 in schedule.day_of_week
    )


def _first_after(start: datetime, end: time, zone: ZoneInfo) -> datetime:
    local = start.astimezone(zone)
    moment = local.replace(hour=end.hour, minute=end.minute, second=end.second)
    if moment <= local:
        moment += timedelta(days=1)
    return moment.astimezone(UTC)
