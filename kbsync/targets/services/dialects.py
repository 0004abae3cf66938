"""What the services want to be asked, each in its own dialect. Pure.

openai: OpenAI's reference, "Create embeddings". jina: Jina's reader of `/v1/embeddings` and `/v1/rerank`.
newapi: the gateway's multimodal embeddings, whose items are objects. zhipu: the open platform's
`/paas/v4/embeddings` and `/paas/v4/rerank`. tei: Hugging Face's text-embeddings-inference, its own routes.
vllm: vLLM's OpenAI-compatible server.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbsync.targets.services.config import EmbeddingConfig, RerankConfig


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


_MULTIMODAL = ("clip", "embeddings-v4")
"""Parts of the names of Jina's models that take pictures."""


def identity_of(config: EmbeddingConfig | RerankConfig) -> str:
    """Names the vectors: another name, another recipe. Where the service lies does not matter."""
    dimensions = config.dimensions if isinstance(config, EmbeddingConfig) else None
    return f"{config.type}:{config.model}:{dimensions or 'own'}/1"


def takes_pictures(config: EmbeddingConfig) -> bool:
    """The dialect has a form for pictures, and the model's name does not speak against it."""
    is_multimodal = any(word in config.model for word in _MULTIMODAL)
    return config.type == "newapi" or (config.type == "jina" and is_multimodal)


Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """How a dialect asks for vectors. `most_items`, `most_weight`: of one request (`Item.weight`)."""

    path: str
    most_items: int
    most_weight: int
    body: Callable[[EmbeddingConfig, Sequence[EmbeddingItem], bool], Body]


@dataclass(frozen=True, slots=True)
class Rerank:
    """How a dialect asks for an order. `most_texts` of one request, `longest` in characters each."""

    path: str
    most_texts: int
    longest: int
    body: Callable[[RerankConfig, str, Sequence[str]], Body]


def _named(config: EmbeddingConfig) -> Body:
    """The model and the length of its vectors, as far as the config says."""
    named = {"model": config.model, "dimensions": config.dimensions}
    return {key: value for key, value in named.items() if value}


def _plain(config: EmbeddingConfig, items: Sequence[EmbeddingItem], _is_query: bool) -> Body:
    """Strings; what OpenAI takes and everybody else's imitation of it."""
    return {**_named(config), "input": [item.text for item in items]}


def _compact(config: EmbeddingConfig, items: Sequence[EmbeddingItem], is_query: bool) -> Body:
    """The same, with vectors as base64: a third of the bytes, and no numbers to read."""
    return {**_plain(config, items, is_query), "encoding_format": "base64"}


def _jina(config: EmbeddingConfig, items: Sequence[EmbeddingItem], is_query: bool) -> Body:
    """Each object has exactly one of text and image; questions and passages are embedded differently."""
    task = {} if "clip" in config.model else {"task": f"retrieval.{'query' if is_query else 'passage'}"}
    objects = [{"image": item.data_uri} if item.picture else {"text": item.text} for item in items]
    is_plain = not any(item.picture for item in items) and "clip" not in config.model
    inputs: list[Any] = [item.text for item in items] if is_plain else objects
    return {**_named(config), "input": inputs, **task, "normalized": True, "embedding_type": "base64"}


def _newapi(config: EmbeddingConfig, items: Sequence[EmbeddingItem], _is_query: bool) -> Body:
    """Objects with one key each: both at once are refused behind the gateway, or mean something else."""
    objects = [{"image": item.data_uri} if item.picture else {"text": item.text} for item in items]
    return {**_named(config), "input": objects, "normalized": True, "embedding_type": "float"}


def _tei(config: EmbeddingConfig, items: Sequence[EmbeddingItem], _is_query: bool) -> Body:
    inputs = [item.text for item in items]
    dimensions = {"dimensions": config.dimensions} if config.dimensions else {}
    return {"inputs": inputs, "normalize": True, "truncate": True, **dimensions}


EMBEDDINGS: Mapping[str, Embeddings] = {
    "openai": Embeddings("/embeddings", 256, 200_000, _compact),
    "jina": Embeddings("/embeddings", 128, 4_000_000, _jina),
    "newapi": Embeddings("/embeddings", 64, 4_000_000, _newapi),
    "zhipu": Embeddings("/embeddings", 64, 200_000, _plain),
    "tei": Embeddings("/embed", 32, 200_000, _tei),
    "vllm": Embeddings("/embeddings", 64, 200_000, _compact),
}


def _documents(config: RerankConfig, question: str, texts: Sequence[str]) -> Body:
    model = {"model": config.model} if config.model else {}
    return {**model, "query": question, "documents": list(texts), "top_n": len(texts)}


def _without_echo(config: RerankConfig, question: str, texts: Sequence[str]) -> Body:
    return {**_documents(config, question, texts), "return_documents": False}


def _texts(_config: RerankConfig, question: str, texts: Sequence[str]) -> Body:
    return {"query": question, "texts": list(texts), "truncate": True}


RERANK: Mapping[str, Rerank] = {
    "openai": Rerank("/rerank", 128, 4096, _documents),
    "jina": Rerank("/rerank", 128, 8192, _without_echo),
    "newapi": Rerank("/rerank", 128, 8192, _without_echo),
    "zhipu": Rerank("/rerank", 128, 4096, _without_echo),
    "tei": Rerank("/rerank", 32, 8192, _texts),
    "vllm": Rerank("/rerank", 128, 8192, _documents),
}
LONGEST_QUESTION = 4096
"""Characters (the vendor zhipu's limit; nobody else's is lower)."""
