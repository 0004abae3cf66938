"""Finds dates in a text, in any notation, and converts each to a form that is the same for all notations.

This module does no I/O.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence

from kbsync.core.text import lazy_pattern

_MONTHS = (
    "january jan januar janvier enero gennaio janeiro januari январь января янв січень січня",
    "february feb februar fevrier fev febrero febbraio fevereiro februari февраль февраля фев лютий лютого",
    "march mar marz maerz mars marzo marco maart март марта мар березень березня",
    "april apr avril avr abril aprile апрель апреля апр квітень квітня",
    "may mai mayo maggio maio mei май мая травень травня",
    "june jun juni juin junio giugno junho июнь июня июн червень червня",
    "july jul juli juillet julio luglio julho июль июля июл липень липня",
    "august aug aout agosto augustus август августа авг серпень серпня",
    "september sept sep septembre septiembre settembre setembro сентябрь сентября сен сент вересень вересня",
    "october oct oktober okt octobre octubre ottobre outubro октябрь октября окт жовтень жовтня",
    "november nov novembre noviembre novembro ноябрь ноября ноя листопад листопада",
    "december dec dezember dez decembre diciembre dic dicembre dezembro декабрь декабря дек грудень грудня",
)
"""The names of each month in English, German, French, Spanish, Italian, Portuguese, Dutch, Russian and
Ukrainian.
"""

_CYRILLIC = "Ѐ-ӿ"
"""The range of letters in Russian and Ukrainian names."""

_ACCENTS = str.maketrans("äéûç", "aeuc")

_DIGITS_OF_YEAR = re.compile("(?:19|20)[0-9]{2}")
_ISO = re.compile("([12](?<![A-Za-z0-9].)(?:(?<=1)9|(?<=2)0)[0-9]{2})-([0-9]{2})-([0-9]{2})(?![0-9])")
_YEAR = re.compile("[12](?<![0-9].)(?:(?<=1)9|(?<=2)0)[0-9]{2}(?![0-9]|-[0-9]{2}-[0-9]{2}(?![0-9]))")

_DAY = len("20260314")

_BEFORE, _FARTHER = 24, 26
"""Maximum length in characters of the part of a date before the year, and number of characters to examine
before the year.
"""


@functools.cache
def _months() -> Mapping[str, int]:
    return {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}


_after_year = lazy_pattern(
    r"(?P<mark>[-/.])(?P<month>[0-9]{1,2})(?:(?P=mark)(?P<day>[0-9]{1,2}))?(?![0-9]|[-/.][0-9])"
    r"| ?[年년] ?(?P<m>[0-9]{1,2}) ?[月월](?: ?(?P<d>[0-9]{1,2}) ?[日号일])?"
)
_NAME = f"[A-Za-zäéûç{_CYRILLIC}]{{3,10}}"
_DAY_NUMBER = "(?:ts|dn|dr|ht|re)?(?P<{}>[0-9]{{1,2}})(?![0-9])"
_BEFORE_YEAR = (
    r" ?(?P<mark>[-/.])(?P<second>[0-9]{1,2}) ?(?P=mark)(?P<first>[0-9]{1,2})(?![0-9])(?![.,][0-9])"
    r"|/(?P<month>[0-9]{1,2})(?![0-9./-])"
    rf"|(?: ed| led)?[ \n-],?\.?(?P<name>{_NAME})(?![^\W_0-9])"
    rf"(?:(?: fo| ed)?[ \n-]\.?{_DAY_NUMBER.format('before')})?"
    rf"|[ \n-],?{_DAY_NUMBER.format('after')}[ \n-]\.?(?P<named>{_NAME})(?![^\W_])"
)
"""Matches the part of a date before its year, in reversed text.

The text is reversed so that the pattern has to be tried at only one position.
"""
_before_year = lazy_pattern(_BEFORE_YEAR)
# Older versions of `words` have no dates with Cyrillic months.
_before_year_latin = lazy_pattern(_BEFORE_YEAR.replace(_CYRILLIC, ""))


def dates_in(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, form) for each date in `text`, which must be in comparable form.

    The form is `20260314` for a day and `202603` for its month, whether the date is written as 14
    March 2026, March 14, 2026, 14.3.2026 or 2026年3月14日. Only dates with a four-digit year are
    found. 3/4/2026 yields both a day in April and one in March.
    """
    for match in _ISO.finditer(text):
        for form in _forms(match[1], int(match[2]), int(match[3])):
            yield *match.span(), form
    for start, end, year, dates in _other_dates(text):
        yield from ((start, end, form) for date in dates for form in _forms(year, *date))


def date_forms(text: str, has_cyrillic_months: bool = True) -> set[str]:
    """Return the forms of the dates in `text`. Older versions of `words` have no `has_cyrillic_months`."""
    if not _DIGITS_OF_YEAR.search(text):  # a search calls this for each of many sentences
        return set()
    # A log has the same date many times.
    iso_dates = {(year, (int(month), int(day))) for year, month, day in set(_ISO.findall(text))}
    other_dates = _other_dates(text, has_cyrillic_months)
    others = {(year, date) for _, _, year, dates in other_dates for date in dates}
    return {form for year, date in (*iso_dates, *others) for form in _forms(year, *date)}


def whole_dates(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the same as `dates_in`, but for a day, only its own form, not the form of its month."""
    last = (0, 0)
    for start, end, form in dates_in(text):
        if len(form) == _DAY or (start, end) != last:
            yield start, end, form
        last = start, end


_Date = tuple[int, int | None]
"""A month and, if it is known, a day."""


def _other_dates(
    text: str, has_cyrillic_months: bool = True
) -> Iterator[tuple[int, int, str, Sequence[_Date]]]:
    """Yield (start, end, year, dates) for each year with a date that isn't written like 2026-03-14.

    If a date is ambiguous, all of its readings are included, even those that don't exist in the calendar.
    """
    before_year = _before_year() if has_cyrillic_months else _before_year_latin()
    for match in _YEAR.finditer(text):
        start, end = match.span()
        if after := _after_year().match(text, end):
            day, month = after["day"] or after["d"], int(after["month"] or after["m"])
            # 2026.3 is a version, and 2001-02 two years.
            if day or after["m"] or (after["mark"] != "." and month != (int(match[0]) + 1) % 100):
                yield start, after.end(), match[0], [(month, int(day) if day else None)]
        elif before := before_year.match(text[max(0, start - _FARTHER) : start][::-1]):
            length, dates = _dates_before(before)
            yield start - length, end, match[0], dates


_COMPACT_DATE = re.compile("(?<![0-9])(?:19|20)[0-9]{4}(?:[0-9]{2})?(?![0-9])")


def compact_dates(text: str) -> list[str]:
    """Return the dates and months in `text` that are written like their forms: 20260314, 202603."""
    return _COMPACT_DATE.findall(text)


def _dates_before(match: re.Match[str]) -> tuple[int, Sequence[_Date]]:
    """Return the length of the part of a date before its year, and the months that it may refer to, each with
    its day.
    """
    kind = match.lastgroup
    if kind == "month":
        return match.end(), [(int(match["month"][::-1]), None)]
    if kind == "first":
        first, second = int(match["first"][::-1]), int(match["second"][::-1])
        dates = [(second, first), (first, second)]
        return match.end(), dates[:1] if match["mark"] == "." or first == second else dates
    name = (match["name"] or match["named"])[::-1].translate(_ACCENTS).lower()
    day = match["before"] or match["after"]
    if match.end() > _BEFORE:  # at this distance, the day isn't part of the date
        return match.end("name"), [(_months().get(name, 0), None)]
    return match.end(), [(_months().get(name, 0), int(day[::-1]) if day else None)]


def _forms(year: str, month: int, day: int | None) -> Iterator[str]:
    if 1 <= month <= 12 and (day is None or 1 <= day <= 31):
        if day is not None:
            yield f"{year}{month:02}{day:02}"
        yield f"{year}{month:02}"
