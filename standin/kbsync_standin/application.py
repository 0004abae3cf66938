"""What the server asks of a vendor's application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response, StandInClock


class Application(Protocol):
    """The vendor's side: it holds documents in memory and answers requests one at a time.

    What a client does against the vendor's rules is answered as the vendor would, and a sentence about
    it is added to `violations`, so that tests can assert that the list stays empty.
    """

    name: str
    kinds: Mapping[str, str]  # fault kinds it plays itself, each with one line of explanation
    clock: StandInClock

    @property
    def behaviour(self) -> Any:
        """A dataclass of switches."""

    @property
    def violations(self) -> list[str]:
        """What was done against the vendor's rules."""

    def op(self, request: Request) -> str:
        """The operation's name, "" for an unknown route. Asked before the body is read."""

    def subject(self, request: Request) -> str:
        """The name of the document that the request is about, the base's id, or "".

        May be asked with the beginning of a body only, and more than once: without effect, and "" for
        what cannot be made out.
        """

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """Do the work and answer. `fault` is None or of one of its own `kinds`, to be played."""

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Change switches of `behaviour`. Raises `ValueError` for an unknown one or a wrong value."""

    def snapshot(self) -> dict[str, Any]:
        """Everything it holds, for tests."""

    def journal(self) -> list[dict[str, Any]]:
        """Its effects in order."""

    def reset(self) -> None:
        """Hold nothing again."""

    def put_foreign(self, args: dict[str, Any]) -> dict[str, Any]:
        """Store a document that somebody else uploads. Raises `ValueError` for wrong arguments."""

    def config_hint(self, url: str) -> str:
        """The config lines that aim a client at the server under `url`."""
