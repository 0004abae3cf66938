"""The options that select among the mirrored documents: by path, by type, by date."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """A date or a date with a time, in local time where no zone is given."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds since the epoch."""
        if isinstance(value, float):
            return value
        try:
            return datetime.datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is no date; write 2026-01-31 or 2026-01-31T12:00:00Z", param, ctx)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--path", metavar="GLOB", help="Only documents whose path matches (gitignore syntax)."),
    click.option(
        "--type", "types", multiple=True, metavar="EXT", help="Only this extension; may be repeated."
    ),
    click.option("--after", type=Moment(), metavar="DATE", help="Only files changed at or after this date."),
)


def selection_options(function: F) -> F:
    """Give a command `--path`, `--type` and `--after`, as `path`, `types` and `after`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def extensions(types: Iterable[str]) -> tuple[str, ...]:
    """What `--type` names, also where several stand in one value."""
    return tuple(part for each in types for part in each.split(","))
