"""The account of a service behind a mirror, opened for one command, and what is at stake before a change."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from kbsync.accounts.account import Account, Applications, Bases, Callbacks, account_of
from kbsync.cli.context import choose, read_state, unmade
from kbsync.cli.exit_codes import Code, OfMirror, concerning
from kbsync.cli.options import Choices
from kbsync.cli.output import tell
from kbsync.config.model import MirrorConfig
from kbsync.config.target import RemoteTargetConfig
from kbsync.contract.target import BaseCard, Target
from kbsync.core.text import counted, printable, sized
from kbsync.errors import NotOffered, Rejected, UsageError

if TYPE_CHECKING:
    import asyncio

    from kbsync.installation import Installation
    from kbsync.state.read_only import Tx

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """A mirror's target, opened for reading, and the event loop that it lives in.

    The properties raise `UsageError` where its service cannot do what is asked for.
    """

    installation: Installation
    mirror: MirrorConfig
    target: Target
    service: Account
    runner: asyncio.Runner

    def call(self, request: Coroutine[Any, Any, T]) -> T:
        """The answer to a request."""
        return self.runner.run(request)

    @property
    def bases(self) -> Bases:
        """The knowledge bases."""
        if self.service.bases is None:
            kind = self.mirror.target.type
            raise UsageError(f"a service of type {kind} has no knowledge bases to list or to change")
        return self.service.bases

    @property
    def applications(self) -> Applications:
        """What answers questions."""
        if self.service.answers is None or self.service.bases is None:
            raise UsageError(f"a target of type {self.mirror.target.type} has no applications")
        return self.service.answers.applications

    @property
    def callbacks(self) -> Callbacks:
        """The address that the service calls."""
        if self.service.callbacks is None:
            raise UsageError(f"an account of type {self.mirror.target.type} has no address for its events")
        return self.service.callbacks

    def mirrors_of(self, base_id: str) -> list[str]:
        """The mirrors of the config that put their documents into a base."""
        place = (self.bases.address, base_id)
        mirrors = self.installation.config.mirrors
        return [each.name for each in mirrors if each.target.base_key(each.name)[-2:] == place]

    def owned_in(self, base_id: str) -> int:
        """How many documents of a base the state proves ours, those of former mirrors included."""
        from kbsync.core.model import PROVEN

        place = (self.bases.address, base_id)

        def count(tx: Tx) -> int:
            total = 0
            for record in tx.mirrors.all():
                # A mirror may have used several bases; only this one counts.
                for number, owned in tx.uploads.owned(record.id, PROVEN).items():
                    binding = tx.mirrors.binding(number)
                    if binding is not None and (binding.address, binding.base) == place:
                        total += owned
            left = (each for each in tx.forgotten.bases() if (each.base.address, each.base.base) == place)
            return total + sum(each.documents for each in left)

        return read_state(self.installation, count)

    def warn(self, card: BaseCard, fate: str) -> None:
        """Say what is at stake, on stderr as the question is."""
        content = "an unknown number of documents"
        if card.documents is not None:
            content = counted(card.documents, "document")
        if card.size is not None:
            content += f", {sized(card.size)}"
        owned = f"{self.owned_in(card.id):,} of them ours"
        tell(f"{card.id} {printable(card.name)!r}: {content}, {owned}; {fate}")
        if names := self.mirrors_of(card.id):
            tell(f"{card.id} is the knowledge base of {', '.join(names)}")


@contextmanager
def open_account(choices: Choices, *, needs_own: bool = False) -> Iterator[OpenAccount]:
    """The account behind the only mirror of a service.

    `needs_own`: the config has to name the mirror's knowledge base. What makes one cannot need its id.
    """
    # Without `here`: what is done to a whole account is never guessed from the working directory.
    installation = choose(choices, with_bases=needs_own)
    mirror = only_remote(installation)
    with open_target(installation, mirror) as account, as_usage_error(mirror):
        yield account


@contextmanager
def open_target(installation: Installation, mirror: MirrorConfig) -> Iterator[OpenAccount]:
    """The mirror's target, opened for reading."""
    import asyncio

    with asyncio.Runner() as runner:
        with as_usage_error(mirror), unmade(installation):
            # In a thread, since opening reads files and may load much.
            opening = asyncio.to_thread(installation.target, mirror, read_only=True)
            target = runner.run(opening)
        try:
            yield OpenAccount(installation, mirror, target, account_of(target), runner)
        finally:
            runner.run(target.aclose())


@contextmanager
def as_usage_error(mirror: MirrorConfig) -> Iterator[None]:
    """A refusal within is about what was typed (exit 2), not about a document."""
    with concerning(mirror.name):
        try:
            yield
        except NotOffered as error:
            raise NotOffered(f"this service does not offer that: {error.reason}", code=error.code) from error
        except Rejected as error:
            raise OfMirror(mirror.name, error, Code.USAGE) from error


def only_remote(installation: Installation) -> MirrorConfig:
    """The only mirror with a service behind it. Raises `UsageError` where there is none, or several."""
    remote = [mirror for mirror in installation.mirrors if is_remote(mirror)]
    if len(remote) == 1:
        return remote[0]
    names = ", ".join(each.name for each in remote or installation.mirrors)
    if remote:
        raise UsageError(f"several mirrors use a service; choose one with --mirror: {names}")
    raise UsageError(
        f"{names}: a knowledge base that kbsync keeps itself, built-in or in a database, needs no "
        "management; only those of services do"
    )


def is_remote(mirror: MirrorConfig) -> bool:
    """The mirror's knowledge base is that of a service."""
    return isinstance(mirror.target, RemoteTargetConfig)
