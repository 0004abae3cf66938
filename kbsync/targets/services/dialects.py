"""Requests to embedding and rerank services in each dialect, and the parsing of their responses, without I/O.

openai: OpenAI's reference, "Create embeddings". jina: Jina's API reference for `/v1/embeddings` and
`/v1/rerank`. newapi: the gateway's multimodal embeddings, whose items are objects. zhipu: the open platform's
`/paas/v4/embeddings` and `/paas/v4/rerank`. tei: Hugging Face's text-embeddings-inference, its own routes.
vllm: vLLM's OpenAI-compatible server. A response that can't belong to the request is a `NonsenseError`.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kbsync.dataclass import dataclass
from kbsync.targets.http.reading import integer, number
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EmbeddingItem:
    """A text, or the bytes and the media type of a picture."""

    text: str = ""
    picture: bytes = b""
    media_type: str = ""

    @property
    def weight(self) -> int:
        """The approximate size in a request, in characters."""
        return len(self.text) + 4 * len(self.picture) // 3

    @property
    def data_uri(self) -> str:
        """The picture as a data URI (RFC 2397)."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.picture).decode()}"

    def shortened(self) -> EmbeddingItem:
        """Return the item with only the first half of its text."""
        return EmbeddingItem(self.text[: len(self.text) // 2])


_MULTIMODAL = ("clip", "embeddings-v4")
"""Substrings of the names of Jina models that accept pictures."""


def identity_of(config: EmbeddingConfig | RerankConfig) -> str:
    """Return a string that identifies the vectors of this config, regardless of the service's URL.

    It is part of the recipe: if it changes, kbsync computes all vectors again.
    """
    # Every index stores this text: changing its form would embed all texts again.
    dimensions = config.dimensions if isinstance(config, EmbeddingConfig) else None
    return f"{config.type}:{config.model}:{dimensions or 'own'}/1"


def takes_pictures(config: EmbeddingConfig) -> bool:
    """Return whether the dialect supports pictures and the name of the model doesn't rule them out."""
    is_multimodal = any(word in config.model for word in _MULTIMODAL)
    return config.type == "newapi" or (config.type == "jina" and is_multimodal)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The limits of a dialect, and the path of its request for vectors.

    `most_items` and `most_weight` limit a request for vectors (`EmbeddingItem.weight`). `most_texts` limits a
    request for a ranking, with at most `max_length` characters in each text.
    """

    most_items: int
    most_weight: int
    most_texts: int
    max_length: int
    path: str = "/embeddings"


# Documented numbers of items in one request (tei: the default of --max-client-batch-size); kbsync sends fewer
# after a refusal.
DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect(256, 200_000, 128, 4096),
    "jina": Dialect(128, 4_000_000, 128, 8192),
    "newapi": Dialect(64, 4_000_000, 128, 8192),
    "zhipu": Dialect(64, 200_000, 128, 4096),
    "tei": Dialect(32, 200_000, 32, 8192, path="/embed"),
    "vllm": Dialect(64, 200_000, 128, 8192),
}
RERANK_PATH = "/rerank"


def asks_for_base64(config: EmbeddingConfig) -> bool:
    """Return whether the dialect can return vectors as base64, which takes a third of the bytes and is faster
    to parse.
    """
    return config.type in ("openai", "vllm", "jina")


def embedding_body(
    config: EmbeddingConfig, items: Sequence[EmbeddingItem], *, is_query: bool, base64: bool = True
) -> dict[str, Any]:
    """Return the request for the vectors of `items`.

    `base64`: whether to use that encoding if the dialect has it.
    """
    texts = [item.text for item in items]
    # One key per object: the models behind the gateway refuse two, or combine them into one vector.
    objects = [{"image": item.data_uri} if item.picture else {"text": item.text} for item in items]
    length = {"dimensions": config.dimensions} if config.dimensions else {}
    named = {**({"model": config.model} if config.model else {}), **length}
    match config.type:
        case "tei":
            return {"inputs": texts, "normalize": True, "truncate": True, **length}
        case "newapi":
            return {**named, "input": objects, "normalized": True, "embedding_type": "float"}
        case "jina":  # these models embed questions and passages differently; clip doesn't
            is_clip = "clip" in config.model
            task = {} if is_clip else {"task": f"retrieval.{'query' if is_query else 'passage'}"}
            inputs = objects if is_clip or any(item.picture for item in items) else texts
            form = "base64" if base64 else "float"
            return {**named, "input": inputs, **task, "normalized": True, "embedding_type": form}
        case "openai" | "vllm":
            return {**named, "input": texts, "encoding_format": "base64" if base64 else "float"}
    return {**named, "input": texts}


def rerank_body(config: RerankConfig, question: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return the request for a ranking of `texts`."""
    if config.type == "tei":
        return {"query": question, "texts": list(texts), "truncate": True}
    model = {"model": config.model} if config.model else {}
    # The gateway's reference lacks this key.
    echo = {"return_documents": False} if config.type in ("jina", "zhipu") else {}
    return {**model, "query": question, "documents": list(texts), "top_n": len(texts), **echo}


MAX_QUERY_LENGTH = 4096
"""Maximum length of a query in characters: the lowest limit of these services, which is zhipu's."""

MAX_DIMENSIONS = 16_384


class NonsenseError(Exception):
    """Raised for a response that can't belong to the request. `str()` says why."""


def vectors_of(body: object, count: int) -> list[NDArray[np.float32] | None]:
    """Return `count` vectors of length 1, in the order of the request.

    An invalid vector, or one without a direction, is replaced by None. Raises `NonsenseError` if the vectors
    can't be assigned to the texts or have different numbers of dimensions.
    """
    rows = _list_of(body)
    if len(rows) != count:
        raise NonsenseError(f"{len(rows)} vectors for {count} texts")
    # In the order of `index` if each row has a different one; otherwise in the order of the response.
    by_index = {integer(row.get("index")): row for row in rows if isinstance(row, Mapping)}
    if by_index.keys() == set(range(count)):
        rows = [by_index[index] for index in range(count)]
    vectors = [_vector(row) for row in rows]
    lengths = {len(vector) for vector in vectors if vector is not None}
    if len(lengths) > 1:
        raise NonsenseError(f"vectors of different lengths ({', '.join(map(str, sorted(lengths)))})")
    units = iter(_units([vector for vector in vectors if vector is not None]))
    return [None if vector is None else next(units) for vector in vectors]


def order_of(body: object, count: int) -> list[tuple[int, float]]:
    """Return (index, score) for all `count` texts, best first. Texts missing from the response keep their
    order at the end.

    If a row has no index, its position is used. Unknown indexes are ignored. If a text has several scores,
    the best one is used. Raises `NonsenseError`.
    """
    scores: dict[int, float] = {}
    for position, item in enumerate(_list_of(body)):
        if not isinstance(item, Mapping):
            raise NonsenseError("a row that isn't an object")
        index = integer(item.get("index", position))
        score = number(item.get("relevance_score", item.get("score")))
        if index is not None and 0 <= index < count and score is not None:
            scores[index] = max(score, scores.get(index, -math.inf))
    if not scores and count:
        raise NonsenseError("none of the texts")
    best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
    last = best[-1][1] if best else 0.0
    return best + [(index, last) for index in range(count) if index not in scores]


def _list_of(body: object) -> Sequence[object]:
    """Return the list in a response, which is the response itself, `data`, `results` or `embeddings`."""
    if isinstance(body, Mapping):
        lists = [body[key] for key in ("results", "data", "embeddings") if isinstance(body.get(key), list)]
        body = lists[0] if lists else None
    if not isinstance(body, list):
        raise NonsenseError("no list")
    return body


def _vector(row: object) -> NDArray[np.float32] | None:
    """Return the vector, or None if the row doesn't contain one (null or an empty list)."""
    import numpy as np

    value = row.get("embedding", ()) if isinstance(row, Mapping) else row
    if value is None or value == []:
        return None
    if isinstance(value, str):  # little-endian float32 as base64
        try:
            content = binascii.a2b_base64(value, strict_mode=True)
        except ValueError:  # also binascii.Error and non-ASCII text
            raise NonsenseError("a text that isn't base64") from None
        if not content or len(content) % 4 or len(content) > 4 * MAX_DIMENSIONS:
            raise NonsenseError(f"a row of {len(content)} bytes, which is not a vector")
        return np.frombuffer(content, "<f4")
    if not isinstance(value, list) or not 0 < len(value) <= MAX_DIMENSIONS:
        raise NonsenseError("a row that isn't a vector")
    if any(isinstance(number, list) for number in value):
        raise NonsenseError("several vectors for one text; kbsync doesn't support such models")
    # A null among the numbers is a NaN, which JSON lacks: request the vector again instead of blaming the
    # text.
    try:
        with np.errstate(over="ignore"):  # infinity for a number too large for float32
            return np.array([math.nan if number is None else number for number in value], np.float32)
    except (ValueError, TypeError, OverflowError):
        raise NonsenseError("a value that isn't a number") from None


def _units(vectors: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32] | None]:
    """Return the vectors scaled to length 1, or None for those without a direction (all zeros, or NaN)."""
    import numpy as np

    if not vectors:
        return []
    # Compute in double precision: the squares of large numbers overflow a float32.
    wide = np.concatenate(vectors, dtype=np.float64).reshape(len(vectors), -1)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    is_sound = np.isfinite(lengths) & (lengths > 0)
    units = (wide / np.where(is_sound, lengths, 1.0)[:, np.newaxis]).astype(np.float32)
    return [unit if sound else None for unit, sound in zip(units, is_sound.tolist(), strict=True)]
