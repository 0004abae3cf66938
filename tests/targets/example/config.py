"""The config block of `type: example`, and how it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from kbsync.config.kinds import Choice, Text
from kbsync.config.target import RemoteTargetConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTargetConfig(RemoteTargetConfig):
    """A knowledge base at the example service."""

    type: Annotated[Literal["example"], Choice("example: a base at the example service")]
    base: Annotated[str, Text("the knowledge base", "[a-z0-9-]+", "small letters, digits and -")]

    opens: ClassVar[str] = "tests.targets.example.target:ExampleTarget"
    id_setting: ClassVar[str] = "base"
