"""The same question about each of several documents, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from kbsync.errors import Halted, TargetError

T = TypeVar("T")


@dataclass(slots=True)
class Answers(Generic[T]):
    """What came back: every id is in exactly one of them. `halted`: the reason why some were not asked."""

    given: dict[str, T] = field(default_factory=dict)
    refused: dict[str, TargetError] = field(default_factory=dict)
    halted: Halted | None = None


async def ask_each(ids: Iterable[str], ask: Callable[[str], Awaitable[T]], at_once: int) -> Answers[T]:
    """Ask about every id, `at_once` at a time.

    After a `Halted` no more are asked; it is the answer of the rest.
    """
    answers: Answers[T] = Answers()
    waiting = iter(ids)
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(_work(waiting, ask, answers))
    return answers


async def _work(waiting: Iterator[str], ask: Callable[[str], Awaitable[T]], answers: Answers[T]) -> None:
    for remote_id in waiting:
        if answers.halted is not None:
            answers.refused[remote_id] = answers.halted
            continue
        try:
            answers.given[remote_id] = await ask(remote_id)
        except TargetError as error:
            answers.refused[remote_id] = error
            if isinstance(error, Halted):
                answers.halted = error
