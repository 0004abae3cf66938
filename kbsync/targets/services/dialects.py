"""What is turned into a vector: a text, or a picture.

How a service for vectors or for ranking is reached.

What the services want to be asked, each in its own dialect. Pure.

openai: OpenAI's reference, "Create embeddings". jina: Jina's reader of `/v1/embeddings` and `/v1/rerank`.
newapi: the gateway's multimodal embeddings, whose items are objects. zhipu: the open platform's
`/paas/v4/embeddings` and `/paas/v4/rerank`. tei: Hugging Face's text-embeddings-inference, its own routes.
vllm: vLLM's OpenAI-compatible server.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class EmbeddingItem:
    """A text, or the bytes of a picture with its media type."""

    text: str = ""
    picture: bytes = b""
    media_type: str = ""

    @property
    def weight(self) -> int:
        """Characters it takes of a request, about."""
        return len(self.text) + 4 * len(self.picture) // 3

    @property
    def data_uri(self) -> str:
        """A picture as text (RFC 2397)."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.picture).decode()}"

    def shortened(self) -> EmbeddingItem:
        """The first half of a text."""
        return EmbeddingItem(self.text[: len(self.text) // 2])


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


Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """How a dialect asks for vectors. `most_items`, `most_weight`: of one request (`Item.weight`)."""

    path: str
    most_items: int
    most_weight: int
    body: Callable[[ServiceSettings, Sequence[EmbeddingItem], bool], Body]


@dataclass(frozen=True, slots=True)
class Rerank:
    """How a dialect asks for an order. `most_texts` of one request, `longest` in characters each."""

    path: str
    most_texts: int
    longest: int
    body: Callable[[ServiceSettings, str, Sequence[str]], Body]


def _plain(settings: ServiceSettings, items: Sequence[EmbeddingItem], _is_query: bool) -> Body:
    """Strings; what OpenAI takes and everybody else's imitation of it."""
    return {**_model(settings), "input": [item.text for item in items], **_dimensions(settings)}


def _compact(settings: ServiceSettings, items: Sequence[EmbeddingItem], is_query: bool) -> Body:
    """The same, with vectors as base64: a third of the bytes, and no numbers to read."""
    return {**_plain(settings, items, is_query), "encoding_format": "base64"}


def _jina(settings: ServiceSettings, items: Sequence[EmbeddingItem], is_query: bool) -> Body:
    """Each object has exactly one of text and image; questions and passages are embedded differently."""
    named = {} if "clip" in settings.model else {"task": f"retrieval.{'query' if is_query else 'passage'}"}
    objects = [{"image": item.data_uri} if item.picture else {"text": item.text} for item in items]
    is_plain = not any(item.picture for item in items) and "clip" not in settings.model
    inputs: list[Any] = [item.text for item in items] if is_plain else objects
    return {
        **_model(settings),
        "input": inputs,
        **_dimensions(settings),
        **named,
        "normalized": True,
        "embedding_type": "base64",
    }


def _newapi(settings: ServiceSettings, items: Sequence[EmbeddingItem], _is_query: bool) -> Body:
    """Objects with one key each: both at once are refused behind the gateway, or mean something else."""
    objects = [{"image": item.data_uri} if item.picture else {"text": item.text} for item in items]
    return {
        **_model(settings),
        "input": objects,
        **_dimensions(settings),
        "normalized": True,
        "embedding_type": "float",
    }


def _tei(settings: ServiceSettings, items: Sequence[EmbeddingItem], _is_query: bool) -> Body:
    inputs = [item.text for item in items]
    return {"inputs": inputs, "normalize": True, "truncate": True, **_dimensions(settings)}


def _model(settings: ServiceSettings) -> Body:
    return {"model": settings.model} if settings.model else {}


def _dimensions(settings: ServiceSettings) -> Body:
    return {"dimensions": settings.dimensions} if settings.dimensions else {}


EMBEDDINGS: Mapping[Dialect, Embeddings] = {
    "openai": Embeddings("/embeddings", 256, 200_000, _compact),
    "jina": Embeddings("/embeddings", 128, 4_000_000, _jina),
    "newapi": Embeddings("/embeddings", 64, 4_000_000, _newapi),
    "zhipu": Embeddings("/embeddings", 64, 200_000, _plain),
    "tei": Embeddings("/embed", 32, 200_000, _tei),
    "vllm": Embeddings("/embeddings", 64, 200_000, _compact),
}


def _documents(settings: ServiceSettings, question: str, texts: Sequence[str]) -> Body:
    return {**_model(settings), "query": question, "documents": list(texts), "top_n": len(texts)}


def _without_echo(settings: ServiceSettings, question: str, texts: Sequence[str]) -> Body:
    return {**_documents(settings, question, texts), "return_documents": False}


def _texts(_settings: ServiceSettings, question: str, texts: Sequence[str]) -> Body:
    return {"query": question, "texts": list(texts), "truncate": True}


RERANK: Mapping[Dialect, Rerank] = {
    "openai": Rerank("/rerank", 128, 4096, _documents),
    "jina": Rerank("/rerank", 128, 8192, _without_echo),
    "newapi": Rerank("/rerank", 128, 8192, _without_echo),
    "zhipu": Rerank("/rerank", 128, 4096, _without_echo),
    "tei": Rerank("/rerank", 32, 8192, _texts),
    "vllm": Rerank("/rerank", 128, 8192, _documents),
}
LONGEST_QUESTION = 4096
"""Characters (the vendor zhipu's limit; nobody else's is lower)."""
