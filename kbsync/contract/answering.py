"""Questions that a target answers from what it keeps, and who answers them there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from kbsync.contract.searching import Hit


@dataclass(frozen=True, slots=True)
class Application:
    """Something that answers questions from knowledge bases: a model, a prompt, the bases' ids.

    `settings`: as in `BaseCard`.
    """

    id: str
    name: str
    description: str = ""
    prompt: str = ""
    model: str = ""
    bases: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApplicationWish:
    """What is wanted of an application; None: as it is, or the target's choice.

    `settings`: as in `BaseWish`.
    """

    name: str | None = None
    description: str | None = None
    prompt: str | None = None
    model: str | None = None
    bases: tuple[str, ...] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


class Applications(Protocol):
    """The applications of an account. Every call raises `TargetError`; `Rejected` says what to correct.

    `NotOffered`: the service has none, or no longer.
    """

    async def all(self) -> Sequence[Application]:
        """Every one."""

    async def look(self, application_id: str) -> Application:
        """One of them."""

    async def create(self, wish: ApplicationWish) -> Application:
        """Make one. Raises `NameTaken` where there is one of this name."""

    async def update(self, application_id: str, wish: ApplicationWish) -> None:
        """Change what is wanted."""

    async def delete(self, application_id: str) -> None:
        """Remove it; knowledge bases stay."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The end of an answer. `hits`: the passages it was made from; None where the target does not tell.

    `usage`: tokens by the service's own words for what they went into; None: not told. `has_old_document`:
    some of the documents are kept in a form from before, which tells less; None: not told.
    """

    hits: tuple[Hit, ...] | None
    request_id: str = ""
    usage: Mapping[str, int] | None = None
    has_old_document: bool | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question of a conversation and its whole answer; neither is empty."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who answers: an application by its id, or a model that is given passages. Exactly one is set."""

    application: str = ""
    model: str = ""


@runtime_checkable
class Answers(Protocol):
    """Can answer a question from its knowledge base."""

    @property
    def applications(self) -> Applications:
        """Those of the account."""

    @property
    def model(self) -> str:
        """The model that is given passages where there are no applications; "" for none."""

    def answer(
        self,
        question: str,
        by: Answerer,
        *,
        turns: Sequence[Turn] = (),
        among: Sequence[str] = (),
        streamed: bool = True,
    ) -> AsyncIterator[str | Sources]:
        """The answer piece by piece (not `streamed`: in one), and at its end the sources.

        `turns`: what was said before, oldest first; the service may be told the last of them only. `among`:
        remote ids of the documents to answer from; empty: all. A model is not asked where no passage is
        found: then there are sources without hits and nothing else. Raises `TargetError`, also in the
        middle: then what was given so far is not the whole answer.
        """
