"""What is made once and found again by its name: making is not repeatable, and names need not be unique.

So names are looked at before, and after an answer that was lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from kbsync.errors import NameTaken, Unsure


class Named(Protocol):
    """A base or an application."""

    @property
    def id(self) -> str:
        """As the vendor has it."""

    @property
    def name(self) -> str:
        """As people know it."""


T = TypeVar("T", bound=Named)


async def check_unused(name: str, those: Callable[[], Awaitable[Sequence[T]]], what: str) -> None:
    """Raises `NameTaken` where one of `those` has the name; `what`: such as "a knowledge base"."""
    if namesakes := _namesakes(name, await those()):
        raise NameTaken(f"there is {what} {name!r} already: {namesakes[0].id}", code="name")


async def made_after_all(
    name: str, those: Callable[[], Awaitable[Sequence[T]]], error: Unsure, advice: str
) -> T:
    """There was none of this name before: one that is there now was made by the lost request.

    Raises `Unsure` with `advice` where there is not exactly one.
    """
    made = _namesakes(name, await those())
    if len(made) != 1:
        raise Unsure(f"{error.reason}; {advice}", code=error.code) from error
    return made[0]


def _namesakes(name: str, those: Sequence[T]) -> list[T]:
    return [one for one in those if one.name == name]
