"""What a config says of `type: example`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from kbsync.config.kinds import Choice, Confidential, Text
from kbsync.config.remote import (
    CA_FILE,
    CONCURRENCY,
    KEY_ALLOWED,
    PER_MINUTE,
    PROXY,
    UPLOAD_SPEED,
    WAITING,
    BaseUrl,
    VectorizationConfig,
    canonical,
)
from kbsync.config.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTargetConfig:
    """A knowledge base at the example service."""

    type: Annotated[Literal["example"], Choice("example: a base at the example service", ("example",))]
    base_url: Annotated[str, BaseUrl("the API's address")]
    api_key: Annotated[Secret, Confidential("the key of the account", *KEY_ALLOWED)]
    base: Annotated[str, Text("the knowledge base", "[a-z0-9-]+", "small letters, digits and -")]
    concurrency: Annotated[int, CONCURRENCY] = 4
    requests_per_minute: Annotated[int, PER_MINUTE] = 0
    upload_bytes_per_second: Annotated[int, UPLOAD_SPEED] = 0
    vectorization: Annotated[VectorizationConfig, WAITING] = field(default_factory=VectorizationConfig)
    ca_file: Annotated[Path | None, CA_FILE] = None
    proxy: Annotated[Secret | None, PROXY] = None

    shares_base: ClassVar[bool] = False

    def base_key(self, mirror: str) -> tuple[str, ...]:
        """Equal for two mirrors exactly when they would use one knowledge base."""
        return ("example", canonical(self.base_url), self.base)
