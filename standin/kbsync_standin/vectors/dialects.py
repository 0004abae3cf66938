"""The documented requests of each dialect, and vectors and scores computed from words."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbsync_standin import rules
from kbsync_standin.rules import Violation

_WORD = re.compile(r"[a-z0-9]{3,}|[^\W\d_a-z]", re.IGNORECASE)


def vector_of(text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1; a text without words has its own vector."""
    numbers = [0.0] * dimensions
    for word in _words(text) or [text or "nothing"]:
        digest = hashlib.sha256(word.encode("utf-8", "replace")).digest()
        for index in range(4):
            spot, sign = divmod(int.from_bytes(digest[4 * index : 4 * index + 4]), 2)
            numbers[spot % dimensions] += 1.0 if sign else -1.0
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def packed(vector: Sequence[float]) -> str:
    """Return the vector as base64 of little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def words_in_picture(picture: str) -> str | None:
    """Return the readable words in a picture's bytes; None if the text isn't a picture."""
    head, _, content = picture.rpartition(",")
    if head and not re.fullmatch(r"data:image/(png|jpeg|webp);base64", head):
        return None
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return None
    return " ".join(part.decode() for part in re.findall(rb"[a-z ]{4,}", raw)) or None


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


MAX_TEXT_LENGTH = 24_000
"""The most characters of one text, about 8192 tokens; zhipu takes 3072."""

_ENCODINGS = ("float", "base64")


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A parsed embedding request: its texts in order. `dimensions` None: the model's own."""

    texts: list[str]
    dimensions: int | None = None
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The embedding route and rules of one dialect. `most`: inputs per request; `too_many`: the status for
    more.
    """

    route: str
    most: int
    allowed_fields: frozenset[str]
    read: Callable[[dict[str, Any]], EmbeddingRequest]
    needs_model: bool = True
    too_many: int = 400
    longest: int = MAX_TEXT_LENGTH


@dataclass(frozen=True, slots=True)
class Ranking:
    """The rerank route and rules of one dialect. `texts`: the key of the texts; `shape`: the response's
    format.
    """

    route: str
    most: int
    allowed_fields: frozenset[str]
    texts: str = "documents"
    shape: str = "results"
    needs_model: bool = True
    too_many: int = 400


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _texts(body: dict[str, Any], key: str, sentence: str, status: int) -> list[str]:
    """Return one text, or a list of them, as a list."""
    value = body.get(key)
    texts = [value] if isinstance(value, str) else value
    rules.require(rules.are_texts(texts), sentence, status)
    return list(texts or [])


def _plain(body: dict[str, Any]) -> EmbeddingRequest:
    texts = _texts(body, "input", "input is a string or a list of strings, none of them empty", 400)
    encoding = body.get("encoding_format", "float")
    rules.require(encoding in _ENCODINGS, "encoding_format is float or base64")
    return EmbeddingRequest(texts, _dimensions(body), encoding == "base64")


def _jina(body: dict[str, Any]) -> EmbeddingRequest:
    rules.require(isinstance(body.get("normalized", False), bool), "normalized is true or false", 422)
    encoding = body.get("embedding_type", "float")
    rules.require(encoding in _ENCODINGS, "embedding_type is float, base64, binary, ubinary or int8", 422)
    return EmbeddingRequest(_objects(body, 422, may_be_plain=True), _dimensions(body), encoding == "base64")


def _newapi(body: dict[str, Any]) -> EmbeddingRequest:
    rules.require(isinstance(body.get("normalized"), bool), "normalized is required")
    rules.require(body.get("embedding_type") == "float", "embedding_type is required, and float")
    return EmbeddingRequest(_objects(body, 400, may_be_plain=False), _dimensions(body))


def _objects(body: dict[str, Any], status: int, *, may_be_plain: bool) -> list[str]:
    items = body.get("input")
    if not isinstance(items, list) or not items:
        raise Violation("input is a list", status)
    return [_input_text(item, status, may_be_plain) for item in items]


def _input_text(item: object, status: int, may_be_plain: bool) -> str:
    if isinstance(item, str) and may_be_plain:
        rules.require(bool(item), "an empty text", status)
        return item
    if not isinstance(item, dict) or len(item) != 1:
        raise Violation("an item has exactly one of text and image", status)
    if rules.is_text(item.get("text")):
        return str(item["text"])
    words = words_in_picture(item["image"]) if isinstance(item.get("image"), str) else None
    rules.require(words is not None, "an item has neither a text nor a picture that can be read", status)
    return words or ""


def _zhipu(body: dict[str, Any]) -> EmbeddingRequest:
    request = _plain(body)
    rules.require(
        request.dimensions in (None, 256, 512, 1024, 2048), "dimensions: 256, 512, 1024, 2048", 400, "1214"
    )
    return request


def _tei(body: dict[str, Any]) -> EmbeddingRequest:
    texts = _texts(body, "inputs", "`inputs` cannot be empty", 413)
    if body.get("truncate") is not True:
        rules.require(
            all(len(text) <= 1536 for text in texts), "`inputs` must have less than 512 tokens", 413
        )
    return EmbeddingRequest([text[:1536] for text in texts], _dimensions(body))


def _dimensions(body: dict[str, Any]) -> int | None:
    dimensions: int | None = body.get("dimensions")
    rules.require(rules.or_none(rules.integer(1, 4096))(dimensions), "dimensions is a number from 1 to 4096")
    return dimensions


_OPENAI = _keys("model input dimensions encoding_format user")

EMBEDDINGS: Mapping[str, Embeddings] = {
    "openai": Embeddings("/embeddings", 2048, _OPENAI, _plain),
    "jina": Embeddings(
        "/embeddings",
        2048,
        _keys("model input dimensions normalized embedding_type task late_chunking truncate"),
        _jina,
        too_many=422,
    ),
    "newapi": Embeddings(
        "/embeddings", 256, _keys("model input dimensions normalized embedding_type"), _newapi
    ),
    "zhipu": Embeddings(
        "/embeddings", 64, _keys("model input dimensions request_id user_id"), _zhipu, longest=9216
    ),
    "tei": Embeddings(
        "/embed",
        32,
        _keys("inputs normalize truncate dimensions prompt_name"),
        _tei,
        needs_model=False,
        too_many=413,
    ),
    "vllm": Embeddings("/embeddings", 1024, _OPENAI | {"truncate_prompt_tokens"}, _plain, needs_model=False),
}

_RERANK = _keys("model query documents top_n return_documents")

RANKING: Mapping[str, Ranking] = {
    "openai": Ranking("/rerank", 1000, _RERANK),
    "jina": Ranking("/rerank", 2048, _RERANK, too_many=422),
    # Its reference has no `return_documents`: responses always echo the texts.
    "newapi": Ranking("/rerank", 1000, _RERANK - {"return_documents"}),
    "zhipu": Ranking("/rerank", 128, _RERANK | {"return_raw_scores", "request_id", "user_id"}),
    "tei": Ranking(
        "/rerank",
        32,
        _keys("query texts raw_scores return_text truncate"),
        texts="texts",
        shape="bare",
        needs_model=False,
        too_many=413,
    ),
    "vllm": Ranking(
        "/rerank", 1000, _RERANK | {"truncate_prompt_tokens", "use_activation"}, needs_model=False
    ),
}


def parse_embedding(dialect: str, body: dict[str, Any], most: int = 0) -> EmbeddingRequest:
    """Parse an embedding request of at most `most` inputs; 0: the dialect's limit. Raises `Violation`."""
    expected = EMBEDDINGS[dialect]
    most = most or expected.most
    _check_fields(body, expected.allowed_fields, expected.needs_model)
    read = expected.read(body)
    rules.require(len(read.texts) <= most, f"batch size {len(read.texts)} > {most}", expected.too_many)
    too_long = any(len(text) > expected.longest for text in read.texts)
    rules.require(
        not too_long,
        f"maximum context length is {expected.longest // 3} tokens",
        code="context_length_exceeded",
    )
    return read


def parse_rerank(dialect: str, body: dict[str, Any], most_texts: int = 0) -> tuple[str, list[str], int]:
    """Parse a rerank request: the question, the texts, and how many to return. Raises `Violation`."""
    expected = RANKING[dialect]
    most_texts = most_texts or expected.most
    _check_fields(body, expected.allowed_fields, expected.needs_model)
    question, texts, most = body.get("query"), body.get(expected.texts), body.get("top_n", 0)
    if not isinstance(question, str) or not 0 < len(question) <= 4096:
        raise Violation("query is a string of at most 4096 characters")
    if not rules.are_strings(texts) or not texts:
        raise Violation(f"{expected.texts} is a list of strings")
    rules.require(len(texts) <= most_texts, f"batch size {len(texts)} > {most_texts}", expected.too_many)
    if dialect == "zhipu":
        rules.require(
            all(len(text) <= 4096 for text in texts), "a document has more than 4096 characters", code="1214"
        )
    rules.require(isinstance(most, int) and most >= 0, "top_n is a number")
    return question, texts, most or len(texts)


def _check_fields(body: Mapping[str, Any], allowed_fields: Collection[str], needs_model: bool) -> None:
    rules.require_known(body, allowed_fields)
    rules.require(rules.is_text(body.get("model")) or not needs_model, "you must provide a model")
