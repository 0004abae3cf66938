"""A search that goes on without the vendor's ranking model where it is that model that fails."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from kbsync.errors import Halted, Rejected, TargetError

Found = TypeVar("Found")

_log = logging.getLogger(__name__)


async def ranked(
    ask: Callable[[], Awaitable[Found]], without: Callable[[], Awaitable[Found]], overloaded: Collection[str]
) -> Found:
    """What `ask` finds with the ranking model; where that may be what failed, what is found `without`, and
    that is said. `overloaded`: see `may_be_the_ranking`. Raises `TargetError`.
    """
    try:
        return await ask()
    except TargetError as error:
        if not may_be_the_ranking(error, overloaded):
            raise
        found = await without()
        _log.warning("in the order the service finds without its ranking model: %s", error.reason)
        return found


def may_be_the_ranking(error: TargetError, overloaded: Collection[str]) -> bool:
    """A search with the ranking model failed in a way in which one without it may not.

    No such model, no money or plan for it, too much work for it, which the codes `overloaded` tell. Not: a
    refused key, no answer.
    """
    if isinstance(error, Halted):
        return error.halt == "quota"
    return isinstance(error, Rejected) or error.code in overloaded
