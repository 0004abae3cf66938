"""What is the same for bases and applications: both are listed by pages, made once and removed by id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from kbsync.errors import Rejected, Unsure
from kbsync.targets.http import Client
from kbsync.targets.http.namesakes import Named
from kbsync.targets.zhipu.cards import created_id
from kbsync.targets.zhipu.codes import Op
from kbsync.targets.zhipu.knowledge import is_gone
from kbsync.targets.zhipu.wire import data_of

_PAGE, _MOST_PAGES = 100, 1000

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


async def make(client: Client, op: Op, path: str, body: Mapping[str, object]) -> str:
    """Sent once; the id of what was made. Raises `Unsure` also where the answer has none."""
    made = created_id((await client.post(op, path, json=body)).body)
    if made is None:
        raise Unsure("the vendor's answer has no id", code="no-id")
    return made


async def remove(client: Client, op: Op, path: str, look: Op) -> None:
    """One that is gone already is done, if a `look` agrees: a 404 may be said of what stays."""
    try:
        await client.ask(op, "DELETE", path)
        return
    except Rejected as error:
        if not is_gone(error):
            raise
    try:
        shown = data_of((await client.ask(look, "GET", path)).body)
    except Rejected as error:
        if is_gone(error):
            return
        raise
    if shown:
        raise Unsure("the vendor says that there is no such thing, and still has it", code="still-there")
