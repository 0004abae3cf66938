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
class Dialect:
    """The rules of one dialect, for embedding and for reranking.

    `read`: parses an embedding request. `most_inputs`, `most_texts`: the most in one request; `too_many`: the
    status for more. `longest`: the most characters of an input. `texts`: the key of the texts to rerank;
    `shape`: the format of the response.
    """

    read: Callable[[dict[str, Any]], EmbeddingRequest]
    most_inputs: int
    embedding_fields: frozenset[str]
    most_texts: int
    ranking_fields: frozenset[str]
    too_many: int = 400
    needs_model: bool = True
    longest: int = MAX_TEXT_LENGTH
    texts: str = "documents"
    shape: str = "results"


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
_RERANK = _keys("model query documents top_n return_documents")

DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect(_plain, 2048, _OPENAI, 1000, _RERANK),
    "jina": Dialect(
        _jina,
        2048,
        _keys("model input dimensions normalized embedding_type task late_chunking truncate"),
        2048,
        _RERANK,
        too_many=422,
    ),
    # Its reference has no `return_documents`: responses always echo the texts.
    "newapi": Dialect(
        _newapi,
        256,
        _keys("model input dimensions normalized embedding_type"),
        1000,
        _RERANK - {"return_documents"},
    ),
    "zhipu": Dialect(
        _zhipu,
        64,
        _keys("model input dimensions request_id user_id"),
        128,
        _RERANK | {"return_raw_scores", "request_id", "user_id"},
        longest=9216,
    ),
    "tei": Dialect(
        _tei,
        32,
        _keys("inputs normalize truncate dimensions prompt_name"),
        32,
        _keys("query texts raw_scores return_text truncate"),
        too_many=413,
        needs_model=False,
        texts="texts",
        shape="bare",
    ),
    "vllm": Dialect(
        _plain,
        1024,
        _OPENAI | {"truncate_prompt_tokens"},
        1000,
        _RERANK | {"truncate_prompt_tokens", "use_activation"},
        needs_model=False,
    ),
}


def parse_embedding(name: str, body: dict[str, Any], most: int = 0) -> EmbeddingRequest:
    """Parse an embedding request of at most `most` inputs; 0: the dialect's limit. Raises `Violation`."""
    dialect = DIALECTS[name]
    _check_fields(dialect, body, dialect.embedding_fields)
    request = dialect.read(body)
    _check_count(dialect, request.texts, most or dialect.most_inputs)
    rules.require(
        all(len(text) <= dialect.longest for text in request.texts),
        f"maximum context length is {dialect.longest // 3} tokens",
        code="context_length_exceeded",
    )
    return request


def parse_rerank(name: str, body: dict[str, Any], most_texts: int = 0) -> tuple[str, list[str], int]:
    """Parse a rerank request: the question, the texts, and how many to return. Raises `Violation`."""
    dialect = DIALECTS[name]
    _check_fields(dialect, body, dialect.ranking_fields)
    question, texts, most = body.get("query"), body.get(dialect.texts), body.get("top_n", 0)
    if not isinstance(question, str) or not 0 < len(question) <= 4096:
        raise Violation("query is a string of at most 4096 characters")
    if not rules.are_strings(texts) or not texts:
        raise Violation(f"{dialect.texts} is a list of strings")
    _check_count(dialect, texts, most_texts or dialect.most_texts)
    if name == "zhipu":
        rules.require(
            all(len(text) <= 4096 for text in texts), "a document has more than 4096 characters", code="1214"
        )
    rules.require(isinstance(most, int) and most >= 0, "top_n is a number")
    return question, texts, most or len(texts)


def _check_fields(dialect: Dialect, body: Mapping[str, Any], allowed_fields: Collection[str]) -> None:
    rules.require_known(body, allowed_fields)
    rules.require(rules.is_text(body.get("model")) or not dialect.needs_model, "you must provide a model")


def _check_count(dialect: Dialect, texts: Sequence[str], most: int) -> None:
    rules.require(len(texts) <= most, f"batch size {len(texts)} > {most}", dialect.too_many)
