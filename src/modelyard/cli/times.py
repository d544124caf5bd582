"""Moments and durations for people."""

from datetime import datetime


def moment(seconds: float | None, now: datetime) -> str:
    """Return a time since 1970 in the zone of `now`: the day only where it is not today."""
    if seconds is None:
        return ""
    then = datetime.fromtimestamp(seconds, now.tzinfo)
    if then.date() == now.date():
        return f"{then:%H:%M:%S}"
    return f"{then.day} {then:%b %H:%M}" if then.year == now.year else f"{then.day} {then:%b %Y}"


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{int(seconds * 10) / 10:g} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
