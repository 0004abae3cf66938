"""The config block of `type: example`, and how to open that target."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from kbsync.config.kinds import Choice
from kbsync.config.target import BaseId, BaseUrl, RemoteTargetConfig
from kbsync.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTargetConfig(RemoteTargetConfig):
    """A knowledge base at the example service."""

    type: Annotated[Literal["example"], Choice("`example`: a base at the example service")] = "example"
    base_url: Annotated[str, BaseUrl("the URL of the API")] = "https://example.invalid"
    base: Annotated[str, BaseId("the id of the knowledge base", "handbook")]

    opens: ClassVar[str] = "tests.targets.example.target:ExampleTarget"
    id_setting: ClassVar[str] = "base"
    shares_base: ClassVar[bool] = False
