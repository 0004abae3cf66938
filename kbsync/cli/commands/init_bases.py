"""`kbsync init` for a service: lists the knowledge bases of the account, and creates one after a yes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kbsync.cli.exit_codes import code_of, sentence_of
from kbsync.cli.output import counted, tell
from kbsync.cli.prompts import agrees
from kbsync.core.text import printable
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from kbsync.config.target import TargetConfig
    from kbsync.config.template import KeyPlace
    from kbsync.contract.managing import BaseCard, Bases


Value = TypeVar("Value")
UNNAMED = "not-named-yet"
"""Stands for the base that is still to be chosen."""

MOST = 50
"""Bases that are shown; of more, any may be named by its id."""


@dataclass(frozen=True, slots=True)
class AccountBases:
    """The bases of the account behind a key. `kind`: of the target; `settings`: what else its config says."""

    kind: str
    key: KeyPlace
    settings: dict[str, str]

    def all(self) -> Sequence[BaseCard] | None:
        """Every base; None, and a word about why, where the account cannot be asked."""
        try:
            return self._asked(lambda bases: bases.all())
        except Exception as error:
            if code_of(error) is None:
                raise
            tell(f"the knowledge bases of the account cannot be listed: {sentence_of(error)}")
            return None

    def make(self, name: str) -> str:
        """The id of a new one. Raises `KbsyncError`."""
        from kbsync.contract.managing import BaseWish

        made = self._asked(lambda bases: bases.create(BaseWish(name)))
        tell(f"created the knowledge base {printable(name)}: {made.id}")
        return made.id

    def _asked(self, work: Callable[[Bases], Awaitable[Value]]) -> Value:
        from kbsync.contract.managing import ManagesBases
        from kbsync.contract.target import Surroundings

        nowhere = Path(os.devnull)  # a service needs no place on disk
        target = self._config().open(Surroundings("", nowhere, nowhere, read_only=True))

        async def asked() -> Value:
            async with aclosing(target):
                if not isinstance(target, ManagesBases):
                    raise UsageError(f"knowledge bases of type {self.kind} are not listed from here")
                return await work(target.bases)

        return asyncio.run(asked())

    def _config(self) -> TargetConfig:
        from kbsync.config.kinds import Secret
        from kbsync.config.template import KEY, base_key
        from kbsync.targets.registry import TARGETS

        base = base_key(self.kind)
        assert base is not None
        config: TargetConfig = TARGETS[self.kind](
            **{KEY: Secret(self._key()), base: UNNAMED, **self.settings}
        )
        return config

    def _key(self) -> str:
        try:
            key = (
                Path(self.key.file).read_text().strip() if self.key.file else os.environ.get(self.key.env, "")
            )
        except OSError as error:
            raise UsageError(f"the key cannot be read ({(error.strerror or str(error)).lower()})") from None
        if not key:
            raise UsageError(f"${self.key.env} is not set")
        return key


def chosen(offer: AccountBases, ask: Callable[[str, str | None], str]) -> str | None:
    """The id of one that is there or made for it; None where the account cannot be asked."""
    while (cards := offer.all()) is not None:
        show(cards)
        said = ask("Knowledge base: its number or id, or a name for a new one", "1" if cards else None)
        if (known := _known(cards, said)) is not None:
            return known.id
        if agrees(f"There is no {printable(said)}; create a knowledge base of this name?"):
            return offer.make(said)
    return None


def show(cards: Sequence[BaseCard]) -> None:
    """A line for each, on stderr as the question is."""
    if not cards:
        tell("the account has no knowledge base yet")
    for number, card in enumerate(cards[:MOST], 1):
        documents = "" if card.documents is None else f"  {counted(card.documents, 'document')}"
        tell(f"{number}  {card.id}  {printable(card.name)}{documents}")
    if len(cards) > MOST:
        tell(f"… and {len(cards) - MOST:,} more")


def _known(cards: Sequence[BaseCard], said: str) -> BaseCard | None:
    """By its number in the list, its id or its name."""
    if said.isdecimal() and 1 <= int(said) <= len(cards[:MOST]):
        return cards[int(said) - 1]
    return next((card for card in cards if said in (card.id, card.name)), None)
