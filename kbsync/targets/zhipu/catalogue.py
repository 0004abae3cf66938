"""What is the same for bases and applications: both are listed by pages, made once and removed by id.

Making one is not repeatable and names need not be unique, so names are looked at before and after.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from kbsync.errors import NameTaken, Rejected, Unsure
from kbsync.targets.http import Client
from kbsync.targets.zhipu.cards import created_id
from kbsync.targets.zhipu.codes import Op
from kbsync.targets.zhipu.knowledge import is_gone

_PAGE, _MOST_PAGES = 100, 1000


class Named(Protocol):
    """A base or an application."""

    @property
    def id(self) -> str:
        """As the vendor has it."""

    @property
    def name(self) -> str:
        """As people know it."""


T = TypeVar("T", bound=Named)


def given(body: Mapping[str, object]) -> dict[str, object]:
    """A body without what is not set."""
    return {key: value for key, value in body.items() if value is not None}


async def everything(client: Client, op: Op, path: str, read: Callable[[Any], Iterable[T]]) -> Sequence[T]:
    """Every one. Pages are read until one has nothing new, whatever size they come in."""
    found: dict[str, T] = {}
    for number in range(1, _MOST_PAGES):
        params = {"page": str(number), "size": str(_PAGE)}
        answer = await client.ask(op, "GET", path, params=params)
        fresh = {one.id: one for one in read(answer.body) if one.id not in found}
        if not fresh:
            break
        found |= fresh
    return tuple(found.values())


async def check_unused(name: str, those: Callable[[], Awaitable[Sequence[T]]], what: str) -> None:
    """Raises `NameTaken` where one of `those` has the name; `what`: such as "a knowledge base"."""
    if namesakes := _namesakes(name, await those()):
        raise NameTaken(f"there is {what} {name!r} already: {namesakes[0].id}", code="name")


async def make(client: Client, op: Op, path: str, body: Mapping[str, object]) -> str:
    """Sent once; the id of what was made. Raises `Unsure` also where the answer has none."""
    made = created_id((await client.post(op, path, json=body)).body)
    if made is None:
        raise Unsure("the vendor's answer has no id", code="no-id")
    return made


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


async def remove(client: Client, op: Op, path: str) -> None:
    """One that is gone already is done."""
    try:
        await client.ask(op, "DELETE", path)
    except Rejected as error:
        if not is_gone(error):
            raise


def _namesakes(name: str, those: Sequence[T]) -> list[T]:
    return [one for one in those if one.name == name]
