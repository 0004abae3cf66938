"""How a service for vectors or for ranking is reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Dialect = Literal["openai", "jina", "newapi", "zhipu", "tei", "vllm"]
_MULTIMODAL = ("clip", "embeddings-v4")
"""Parts of the names of Jina's models that take pictures."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """One service. `base_url` is what comes before `/embeddings`, `/rerank` or `/embed`.

    `api_key`: "" where the service wants none. `model`: "" where it serves only one (tei). `dimensions`:
    length of a vector that is asked for; None takes the model's own. `concurrency`: requests in flight.
    `batch`: texts in one request; None takes what the documents of the dialect say.
    """

    dialect: Dialect
    base_url: str
    api_key: str = field(default="", repr=False)
    model: str = ""
    dimensions: int | None = None
    concurrency: int = 4
    batch: int | None = None

    @property
    def identity(self) -> str:
        """Names the vectors: another name, another recipe. Where the service lies does not matter."""
        return f"{self.dialect}:{self.model}:{self.dimensions or 'own'}/1"

    @property
    def takes_pictures(self) -> bool:
        """The dialect has a form for pictures, and the model's name does not speak against it."""
        is_multimodal = any(word in self.model for word in _MULTIMODAL)
        return self.dialect == "newapi" or (self.dialect == "jina" and is_multimodal)
