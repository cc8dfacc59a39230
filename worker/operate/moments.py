"""Moments as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta


def parse_moment(text: str, now: datetime | None = None) -> datetime:
    """Read a day, a moment in ISO 8601, `today` or `yesterday`.

    Parameters
    ----------
    text : str
        Local time, unless it has an offset.
    now : datetime, optional
        The present moment, with its offset.

    Returns
    -------
    datetime
        With its offset; a day is its first moment.

    Raises
    ------
    ValueError
        When it is none of these.
    """
    word = text.strip().lower()
    present = (now or datetime.now().astimezone()).astimezone()
    midnight = present.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if word == "today":
        return midnight.astimezone()
    if word == "yesterday":
        return (midnight - timedelta(days=1)).astimezone()
    moment = datetime.fromisoformat(text.strip())
    return moment.astimezone() if moment.tzinfo is None else moment
