"""Opens the account behind a mirror for a single command, and warns before changes."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from kbsync.accounts.account import Applications, Bases, Callbacks, ManagedAccount, account_of
from kbsync.cli.context import choose, read_state, unmade
from kbsync.cli.exit_codes import Code, MirrorError, concerning
from kbsync.cli.options import Choices
from kbsync.cli.output import print_message
from kbsync.config.model import MirrorConfig
from kbsync.config.target import RemoteTargetConfig
from kbsync.contract.target import BaseCard, Target
from kbsync.core.text import format_count, format_size, printable
from kbsync.dataclass import dataclass
from kbsync.errors import NotOffered, Rejected, UsageError
from kbsync.threads import make_runner

if TYPE_CHECKING:
    import asyncio

    from kbsync.installation import Installation
    from kbsync.state.read_only import Tx

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """A mirror's target, opened for reading, with its account and the event loop that runs both.

    A property raises `UsageError` if the service lacks the corresponding feature.
    """

    installation: Installation
    mirror: MirrorConfig
    target: Target
    service: ManagedAccount
    runner: asyncio.Runner

    def call(self, request: Coroutine[Any, Any, T]) -> T:
        """Run a request and return its result."""
        return self.runner.run(request)

    @property
    def bases(self) -> Bases:
        """The knowledge bases."""
        if self.service.bases is None:
            kind = self.mirror.target.type
            raise UsageError(f"kbsync can't list or change {kind} knowledge bases")
        return self.service.bases

    @property
    def applications(self) -> Applications:
        """The applications."""
        if self.service.answers is None or self.service.bases is None:
            raise UsageError(f"a target of type {self.mirror.target.type} has no applications")
        return self.service.answers.applications

    @property
    def callbacks(self) -> Callbacks:
        """The callback URL."""
        if self.service.callbacks is None:
            raise UsageError(f"an account of type {self.mirror.target.type} has no callback URL")
        return self.service.callbacks

    def mirrors_of(self, base_id: str) -> list[str]:
        """Return the configured mirrors that use a knowledge base."""
        location = (self.bases.address, base_id)
        mirrors = self.installation.config.mirrors
        return [mirror.name for mirror in mirrors if mirror.target.base_key(mirror.name)[-2:] == location]

    def owned_in(self, base_id: str) -> int:
        """Return the number of documents in a base that are ours according to the state, including those
        of former mirrors.
        """
        location = (self.bases.address, base_id)

        def count(tx: Tx) -> int:
            total = 0
            for record in tx.mirrors.all():
                # A mirror may have used several bases; count only this one.
                for number, owned in tx.uploads.owned(record.id).items():
                    binding = tx.mirrors.binding(number)
                    if binding is not None and (binding.address, binding.base) == location:
                        total += owned
            for leftover in tx.forgotten.bases():
                if (leftover.base.address, leftover.base.base) == location:
                    total += leftover.documents
            return total

        return read_state(self.installation, count)

    def warn(self, card: BaseCard, effect: str) -> None:
        """Print the effects of a change on stderr. The question to the user will appear there, too."""
        content = "an unknown number of documents"
        if card.documents is not None:
            content = format_count(card.documents, "document")
        if card.size is not None:
            content += f", {format_size(card.size)}"
        owned = f"{self.owned_in(card.id):,} of them ours"
        print_message(f"{card.id} {printable(card.name)!r}: {content}, {owned}; {effect}")
        if names := self.mirrors_of(card.id):
            print_message(f"mirrors that use {card.id}: {', '.join(names)}")


@contextmanager
def open_account(choices: Choices, *, needs_own: bool = False) -> Iterator[OpenAccount]:
    """Open the account behind the only mirror whose target is a service.

    `needs_own`: whether the config must name the mirror's knowledge base. This is False for commands that may
    create it.
    """
    # Without `here`: the working directory must never decide which account changes.
    installation = choose(choices, with_bases=needs_own)
    mirror = only_remote(installation)
    with open_target(installation, mirror) as account, as_usage_error(mirror):
        yield account


@contextmanager
def open_target(installation: Installation, mirror: MirrorConfig) -> Iterator[OpenAccount]:
    """Open the mirror's target for reading."""
    import asyncio

    with make_runner() as runner:
        with as_usage_error(mirror), unmade(installation.narrow(mirror.name)):
            # In a thread, because opening reads files and may load large modules.
            opening = asyncio.to_thread(installation.target, mirror, read_only=True)
            target = runner.run(opening)
        try:
            yield OpenAccount(installation, mirror, target, account_of(target), runner)
        finally:
            runner.run(target.aclose())


@contextmanager
def as_usage_error(mirror: MirrorConfig) -> Iterator[None]:
    """Convert a refusal by the service into a usage error (exit code 2), because no document is to blame."""
    with concerning(mirror.name):
        try:
            yield
        except NotOffered as error:
            reason = f"the service doesn't support this request: {error.reason}"
            raise NotOffered(reason, code=error.code) from error
        except Rejected as error:
            raise MirrorError(mirror.name, error, Code.USAGE) from error
        except UnicodeEncodeError as error:
            raise UsageError(f"{printable(error.object)} is not text (UTF-8)") from error


def only_remote(installation: Installation) -> MirrorConfig:
    """Return the only mirror whose target is a service.

    Raises `UsageError` if there is none, or more than one.
    """
    if (mirror := only_one(filter(is_remote, installation.mirrors), "a service")) is not None:
        return mirror
    names = ", ".join(mirror.name for mirror in installation.mirrors)
    raise UsageError(
        f"{names}: kbsync manages its own indexes, built-in or in a database; this command is for services"
    )


def only_one(mirrors: Iterable[MirrorConfig], target: str) -> MirrorConfig | None:
    """Return the only one of these mirrors, or None if the list is empty.

    Raises `UsageError` if there are several. `target`: what the mirrors use, for the error message.
    """
    several = list(mirrors)
    if len(several) > 1:
        names = ", ".join(mirror.name for mirror in several)
        raise UsageError(f"several mirrors use {target}; choose one with --mirror: {names}")
    return next(iter(several), None)


def is_remote(mirror: MirrorConfig) -> bool:
    """Return whether the mirror's target is a service."""
    return isinstance(mirror.target, RemoteTargetConfig)
