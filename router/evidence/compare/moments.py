"""A text that is one clock time or one date, in the usual notations: `moment`.

Read: 15:30, 3:30 pm, 3 p.m., 15.30 Uhr, noon; 2026-03-12, 12 March 2026, March 12th, 2026, 12. März 2026, 12.03.2026.
A time without am or pm is on the 24-hour clock. Not read: a date without its year, one with slashes (3/12 is two
dates), time zones. Texts are in the normal form of `text.normalise`.
"""

from __future__ import annotations

import re
from datetime import date

LONGEST = 40  # characters
_MONTHS = (
    "january jan januar janvier enero",
    "february feb februar février febrero",
    "march mar märz mars marzo",
    "april apr avril abril",
    "may mai mayo",
    "june jun juni juin junio",
    "july jul juli juillet julio",
    "august aug août agosto",
    "september sep sept septembre septiembre",
    "october oct oktober okt octobre octubre",
    "november nov novembre noviembre",
    "december dec dezember dez décembre diciembre",
)
_MONTH = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}
_TIME = re.compile(
    r"(?:at |um )?(?P<hour>\d{1,2})(?:(?P<mark>[:.])(?P<minute>[0-5]\d)(?::00)?)? ?"
    r"(?P<suffix>a\.?m\.?|p\.?m\.?|uhr|o'clock)?\Z"
)
_NAMED = {"noon": 720, "midday": 720, "midnight": 0}
_YEAR_FIRST = re.compile(r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)\Z")
_DOTTED = re.compile(r"(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<year>\d{4})\Z")
_DAY_FIRST = re.compile(
    r"(?P<day>\d\d?)(?:st|nd|rd|th|\.)? (?:of |de )?(?P<name>[^\W\d_]+)\.?,? (?:de )?(?P<year>\d{4})\Z"
)
_MONTH_FIRST = re.compile(r"(?P<name>[^\W\d_]+)\.? (?P<day>\d\d?)(?:st|nd|rd|th)?,? (?P<year>\d{4})\Z")


def moment(text: str) -> tuple[str, int] | None:
    """What kind of moment it is ("time", "date") and its number, equal for equal moments; None for anything else."""
    if len(text) > LONGEST:
        return None
    return _time(text) or _date(text)


def _time(text: str) -> tuple[str, int] | None:
    if text in _NAMED:
        return ("time", _NAMED[text])
    match = _TIME.match(text)
    if match is None or not (match["suffix"] or match["mark"] == ":"):
        return None
    hour, half = int(match["hour"]), (match["suffix"] or "")[:1]
    if half in ("a", "p"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "p" else 0)
    return ("time", hour * 60 + int(match["minute"] or 0)) if hour < 24 else None


def _date(text: str) -> tuple[str, int] | None:
    forms = (form.match(text) for form in (_YEAR_FIRST, _DOTTED, _DAY_FIRST, _MONTH_FIRST))
    found = next((match.groupdict() for match in forms if match), None)
    if found is None:
        return None
    month = int(found["month"]) if "month" in found else _MONTH.get(found["name"], 0)
    try:
        return ("date", date(int(found["year"]), month, int(found["day"])).toordinal())
    except ValueError:
        return None
