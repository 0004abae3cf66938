"""The config block of `type: example`, and how it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from kbsync.config.kinds import Choice, Text
from kbsync.config.target import RemoteTargetConfig

if TYPE_CHECKING:
    from kbsync.contract.target import Surroundings, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTargetConfig(RemoteTargetConfig):
    """A knowledge base at the example service."""

    type: Annotated[Literal["example"], Choice("example: a base at the example service")]
    base: Annotated[str, Text("the knowledge base", "[a-z0-9-]+", "small letters, digits and -")]

    def base_key(self, mirror: str) -> tuple[str, ...]:
        """Equal for two mirrors exactly when they would use one knowledge base."""
        return ("example", self.base_url, self.base)

    def open(self, surroundings: Surroundings) -> Target:
        """The target of a mirror; no request is sent yet."""
        from tests.targets.example.target import ExampleTarget

        return ExampleTarget(self, surroundings)
