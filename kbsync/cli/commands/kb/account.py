"""At the counter of a service: its target opened for one order, and what stands behind an order."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from kbsync.cli.context import choose, look_at, unmade
from kbsync.cli.exit_codes import Code, OfMirror, concerning
from kbsync.cli.options import Choices
from kbsync.cli.output import counted, tell
from kbsync.config.model import MirrorConfig
from kbsync.config.target import RemoteTargetConfig
from kbsync.contract.answering import Answers, Applications
from kbsync.contract.managing import BaseCard, Bases, Callbacks, CallsBack, ManagesBases, RetriesAll
from kbsync.contract.target import Target
from kbsync.core.text import printable, sized
from kbsync.errors import NotOffered, Rejected, UsageError
from kbsync.installation import Installation

if TYPE_CHECKING:
    from kbsync.state.glance import Tx


Value = TypeVar("Value")


def order(
    choices: Choices, work: Callable[[Bases, Installation], Awaitable[Value]], *, needs_own: bool = False
) -> Value:
    """What `work` gives, with the knowledge bases of the one mirror that is meant.

    `needs_own`: the config has to name the mirror's own. Else it need not: what makes an id cannot need it.
    """

    async def served(target: Target, installation: Installation, mirror: MirrorConfig) -> Value:
        return await work(_bases_of(target, mirror), installation)

    return _served(choices, served, with_bases=needs_own)


def order_application(
    choices: Choices, work: Callable[[Applications, Bases], Awaitable[Value]]
) -> tuple[Value, Callable[[str], str]]:
    """What `work` gives, with the applications and knowledge bases of the one mirror that is meant.

    With it what makes a command that can be pasted.
    """

    async def served(
        target: Target, installation: Installation, mirror: MirrorConfig
    ) -> tuple[Value, Callable[[str], str]]:
        if not isinstance(target, Answers) or not isinstance(target, ManagesBases):
            raise UsageError(f"a target of type {mirror.target.type} has no applications")
        return await work(target.applications, target.bases), installation.cure_for_mirrors

    return _served(choices, served)


def order_callback(choices: Choices, work: Callable[[Callbacks], Awaitable[Value]]) -> Value:
    """What `work` gives, with the callback of the account behind the one mirror that is meant."""

    async def served(target: Target, _installation: Installation, mirror: MirrorConfig) -> Value:
        if not isinstance(target, CallsBack):
            raise UsageError(f"an account of type {mirror.target.type} has no address for its events")
        return await work(target.callbacks)

    return _served(choices, served, with_bases=False)


def order_retry(
    choices: Choices, work: Callable[[RetriesAll, Bases, Installation], Awaitable[Value]]
) -> Value:
    """What `work` gives, with the one mirror's target as what retries all that failed at its service."""

    async def served(target: Target, installation: Installation, mirror: MirrorConfig) -> Value:
        if not isinstance(target, RetriesAll):
            own = installation.cure(f"retry --mirror {mirror.name}")
            raise UsageError(
                f"a service of type {mirror.target.type} cannot be asked to retry all that failed there; "
                f"for the documents of {mirror.name} there is: {own}"
            )
        return await work(target, _bases_of(target, mirror), installation)

    return _served(choices, served)


def _bases_of(target: object, mirror: MirrorConfig) -> Bases:
    if not isinstance(target, ManagesBases):
        kind = mirror.target.type
        raise UsageError(f"knowledge bases of type {kind} are not managed from here; use its console")
    return target.bases


def _served(
    choices: Choices,
    work: Callable[[Target, Installation, MirrorConfig], Awaitable[Value]],
    *,
    with_bases: bool = True,
) -> Value:
    """What `work` gives, with the target of the one mirror that is meant."""
    installation = choose(choices, with_bases=with_bases)
    mirror = one_remote(installation)

    async def served() -> Value:
        async with opened(installation, mirror) as target:
            return await work(target, installation, mirror)

    return asyncio.run(served())


def answers(
    target: Target, installation: Installation, mirror: MirrorConfig, question: str
) -> tuple[Answers, Bases]:
    """The target as what answers questions. Raises `UsageError` where it does not."""
    if not isinstance(target, Answers) or not isinstance(target, ManagesBases):
        reason = f"a target of type {mirror.target.type} writes no answers"
        raise UsageError(f"{mirror.name}: {reason}; {_search_instead(installation, question, mirror)}")
    return target, target.bases


def one_to_ask(installation: Installation, question: str) -> MirrorConfig:
    """As `one_remote`; where no mirror has a service the passages can still be searched for."""
    if any(map(_is_remote, installation.mirrors)):
        return one_remote(installation)
    reason = f"{_names(installation.mirrors)}: an embedded knowledge base writes no answers"
    raise UsageError(f"{reason}; {_search_instead(installation, question, *installation.mirrors)}")


def _search_instead(installation: Installation, question: str, *mirrors: MirrorConfig) -> str:
    chosen = [] if len(installation.config.mirrors) == 1 else [f"--mirror {one.name}" for one in mirrors]
    command = " ".join(("search", *chosen, shlex.quote(question)))
    return f"search its passages: {installation.cure(command)}"


def one_remote(installation: Installation) -> MirrorConfig:
    """The only mirror with a service behind it. Raises `UsageError` where there is none, or several."""
    remote = list(filter(_is_remote, installation.mirrors))
    if not remote:
        raise UsageError(
            f"{_names(installation.mirrors)}: an embedded knowledge base is made by itself; "
            "this is about mirrors of a service"
        )
    if len(remote) > 1:
        raise UsageError(
            f"several mirrors have a service behind them; name one with --mirror: {_names(remote)}"
        )
    return remote[0]


def _is_remote(mirror: MirrorConfig) -> bool:
    return isinstance(mirror.target, RemoteTargetConfig)


def _names(mirrors: Sequence[MirrorConfig]) -> str:
    return ", ".join(each.name for each in mirrors)


@contextmanager
def served(mirror: MirrorConfig) -> Iterator[None]:
    """What is refused within is a matter of what was typed."""
    with concerning(mirror.name):
        try:
            yield
        except NotOffered as error:
            raise NotOffered(f"this service has no such call: {error.reason}", code=error.code) from error
        except Rejected as error:
            raise OfMirror(mirror.name, error, Code.USAGE) from error


@asynccontextmanager
async def opened(installation: Installation, mirror: MirrorConfig) -> AsyncIterator[Target]:
    """The mirror's target, for one order."""
    with served(mirror):
        with unmade(installation):
            target = await asyncio.to_thread(installation.target, mirror, read_only=True)
        async with aclosing(target):
            yield target


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


def confirm(what: str, name: str, given: str | None, called: str = "name", metavar: str = "NAME") -> None:
    """A person typed the name, now or with `--yes`. Raises `UsageError` for another, or where nobody can.

    `called`: what it is, where it is no name; `metavar`: in the help of `--yes`.
    """
    shown = printable(name)
    if given is None and not sys.stdin.isatty():
        raise UsageError(
            f"{what} only after its {called} is typed; there is no terminal to ask on, so add --yes {metavar}"
        )
    said = given if given is not None else _typed(f"Type its {called}, {shown}")
    if said != name:
        raise UsageError(f"its {called} is {shown!r}, not {printable(said)!r}; nothing was changed")


def _typed(question: str) -> str:
    from kbsync.cli.prompts import NoAnswer, typed

    try:
        return typed(question)
    except NoAnswer:
        raise UsageError("the input ended; nothing was changed") from None
