"""At the counter of a service: its target opened for one order, and what stands behind an order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import click

from kbsync.assembly import Installation
from kbsync.cli.choosing import choose, look_at
from kbsync.cli.exits import Code, OfMirror, concerning
from kbsync.cli.options import Choices
from kbsync.cli.paper import counted, sized, tell
from kbsync.config.model import LocalTargetConfig, MirrorConfig
from kbsync.contract import Answers, Applications, BaseCard, Bases, ManagesBases, Target
from kbsync.core.printable import printable
from kbsync.errors import NotOffered, Rejected, UsageError

if TYPE_CHECKING:
    from kbsync.state.store import Tx

Value = TypeVar("Value")


def order(choices: Choices, work: Callable[[Bases, Installation], Awaitable[Value]]) -> Value:
    """What `work` gives, with the knowledge bases of the one mirror that is meant."""
    installation = choose(choices)
    mirror = one_remote(installation)

    async def served() -> Value:
        async with opened(installation, mirror) as target:
            if not isinstance(target, ManagesBases):
                raise UsageError(f"a target of type {mirror.target.type} has no such commands")
            return await work(target.bases, installation)

    return asyncio.run(served())


def order_application(choices: Choices, work: Callable[[Applications, Bases], Awaitable[Value]]) -> Value:
    """What `work` gives, with the applications and knowledge bases of the one mirror that is meant."""
    installation = choose(choices)
    mirror = one_remote(installation)

    async def served() -> Value:
        async with opened(installation, mirror) as target:
            answering, bases = answers(target, mirror)
            return await work(answering.applications, bases)

    return asyncio.run(served())


def answers(target: Target, mirror: MirrorConfig) -> tuple[Answers, Bases]:
    """The target as what answers questions. Raises `UsageError` where it does not."""
    if not isinstance(target, Answers) or not isinstance(target, ManagesBases):
        raise UsageError(f"a target of type {mirror.target.type} answers no questions; use kbsync search")
    return target, target.bases


def one_remote(installation: Installation) -> MirrorConfig:
    """The only mirror with a service behind it. Raises `UsageError` where there is none, or several."""
    remote = [each for each in installation.mirrors if not isinstance(each.target, LocalTargetConfig)]
    if not remote:
        names = ", ".join(each.name for each in installation.mirrors)
        raise UsageError(
            f"{names}: an embedded knowledge base is made by itself; this is about mirrors of a service"
        )
    if len(remote) > 1:
        names = ", ".join(each.name for each in remote)
        raise UsageError(f"several mirrors have a service behind them; name one with --mirror: {names}")
    return remote[0]


@asynccontextmanager
async def opened(installation: Installation, mirror: MirrorConfig) -> AsyncIterator[Target]:
    """The mirror's target. What is refused within is a matter of what was typed."""
    with concerning(mirror.name):
        target = await asyncio.to_thread(installation.target, mirror, read_only=True)
        async with aclosing(target):
            try:
                yield target
            except NotOffered as error:
                raise NotOffered(f"this service has no such call: {error.reason}", code=error.code) from error
            except Rejected as error:
                raise OfMirror(mirror.name, error, Code.USAGE) from error


def users(installation: Installation, address: str, base_id: str) -> list[str]:
    """The mirrors of the config that put their documents into a base."""
    return [
        mirror.name
        for mirror in installation.config.mirrors
        if mirror.target.base_key(mirror.name)[-2:] == (address, base_id)
    ]


def ours_in(installation: Installation, address: str, base_id: str) -> int:
    """How many documents of a base the state proves ours, those of former mirrors too."""
    state = look_at(installation)
    if state is None:
        return 0
    try:
        return state.read(lambda tx: _owned(tx, address, base_id))
    finally:
        state.close()


def _owned(tx: Tx, address: str, base_id: str) -> int:
    from kbsync.engine.forget import OURS

    total = 0
    for record in tx.mirrors.all():
        for number, n in tx.uploads.owned(record.id, OURS).items():
            binding = tx.mirrors.binding(number)
            if binding is not None and (binding.address, binding.base) == (address, base_id):
                total += n
    return total


def content_of(card: BaseCard) -> str:
    """`12 documents, 4.1 MB`, as far as it is known."""
    documents = "an unknown number of documents" if card.documents is None else _documents(card.documents)
    return documents if card.size is None else f"{documents}, {sized(card.size)}"


def _documents(number: int) -> str:
    return counted(number, "document")


def name_of(card: BaseCard) -> str:
    """Its name, or the id where it has none."""
    return card.name or card.id


def warn(installation: Installation, bases: Bases, card: BaseCard, fate: str) -> None:
    """What is at stake, on stderr as the question is."""
    ours = ours_in(installation, bases.address, card.id)
    tell(f"{card.id} {printable(card.name)!r}: {content_of(card)}, {ours:,} of them ours; {fate}")
    names: Sequence[str] = users(installation, bases.address, card.id)
    if names:
        tell(f"{card.id} is the knowledge base of {', '.join(names)}")


def confirm(what: str, name: str, given: str | None) -> None:
    """A person typed the name, now or with `--yes`. Raises `UsageError` for another, or where nobody can."""
    shown = printable(name)
    if given is None and not sys.stdin.isatty():
        raise UsageError(
            f"{what} only after its name is typed; there is no terminal to ask on, so add --yes NAME"
        )
    typed = given if given is not None else click.prompt(f"Type its name, {shown}", err=True)
    if typed != name:
        raise UsageError(f"its name is {shown!r}, not {printable(str(typed))!r}; nothing was changed")
