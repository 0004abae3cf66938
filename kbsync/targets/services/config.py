"""The config blocks `embedding` and `rerank`: whether kbsync or a service embeds passages and ranks hits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal, get_args

from kbsync.config.kinds import Choice, Location, Text, Whole
from kbsync.config.problems import Conflict, Loc
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import (
    CA_FILE,
    CONCURRENCY,
    IN_THE_CLEAR,
    KEY_ALLOWED,
    PROXY,
    REQUESTS_PER_MINUTE,
    BaseUrl,
    ca_file_conflicts,
    is_in_the_clear,
)
from kbsync.dataclass import dataclass

Service = Literal["openai", "jina", "newapi", "zhipu", "tei", "vllm"]
SERVICES: tuple[str, ...] = get_args(Service)
"""The API types of services."""

_KEY = Confidential("the key, if the service needs one", *KEY_ALLOWED)


@dataclass(frozen=True, slots=True)
class EmbeddingConfig:
    """How to compute vectors.

    `path` is the directory or file of the model, for `onnx` only. All keys but `type` and `path` are for
    services.
    """

    type: Annotated[
        Literal["builtin", "onnx", Service],
        Choice(
            "the built-in model, your own model (`onnx`), or the API of a [service](targets/vectors.md)",
            noun="embedding type",
        ),
    ] = "builtin"
    path: Annotated[Path | None, Location("the folder of your model; only for type `onnx`")] = None
    base_url: Annotated[str | None, BaseUrl("the URL without `/embeddings` (`tei`: without `/embed`)")] = None
    api_key: Annotated[Secret | None, _KEY] = None
    model: Annotated[
        str, Text("the model's name, optional for `tei`; changing it reindexes everything", longest=200)
    ] = ""
    dimensions: Annotated[
        int | None,
        Whole(
            "length of a vector; changing it reindexes everything; default: the model's own length",
            least=1,
            most=16_384,
        ),
    ] = None
    concurrency: Annotated[int, CONCURRENCY] = 4
    batch: Annotated[
        int | None,
        Whole("texts per request; default: [by type](targets/vectors.md#dialects)", least=1, most=2048),
    ] = None
    requests_per_minute: Annotated[int, REQUESTS_PER_MINUTE] = 0
    ca_file: Annotated[Path | None, CA_FILE] = None
    proxy: Annotated[Secret | None, PROXY] = None


@dataclass(frozen=True, slots=True)
class RerankConfig:
    """How to rank results. All keys but `type` are for services."""

    type: Annotated[
        Literal["builtin", Service],
        Choice("kbsync's own ranking, or the API of a [service](targets/vectors.md)", noun="rerank type"),
    ] = "builtin"
    base_url: Annotated[str | None, BaseUrl("the URL without `/rerank`")] = None
    api_key: Annotated[Secret | None, _KEY] = None
    model: Annotated[str, Text("the model's name, optional for `tei`", longest=200)] = ""
    concurrency: Annotated[int, CONCURRENCY] = 4
    batch: Annotated[int | None, Whole("texts per request; default: 128 (`tei`: 32)", least=1, most=2048)] = (
        None
    )
    requests_per_minute: Annotated[int, REQUESTS_PER_MINUTE] = 0
    ca_file: Annotated[Path | None, CA_FILE] = None
    proxy: Annotated[Secret | None, PROXY] = None


def service_conflicts(service: EmbeddingConfig | RerankConfig, loc: Loc) -> Iterator[Conflict]:
    """Yield conflicts within the `embedding` or `rerank` block at `loc`."""
    rests_on = ((*loc, "type"),)
    if isinstance(service, EmbeddingConfig):
        if service.type == "onnx" and service.path is None:
            yield Conflict((*loc, "path"), "is missing; type onnx needs the path of the model", rests_on)
        if service.type != "onnx" and service.path is not None:
            message = f"doesn't apply to type {service.type}; remove it"
            yield Conflict((*loc, "path"), message, rests_on)
    if service.type not in SERVICES:
        # A key or a model next to `builtin` is a mistake that would otherwise go unnoticed.
        default = type(service)()
        for field in fields(service):
            if field.name not in ("type", "path") and getattr(service, field.name) != getattr(
                default, field.name
            ):
                message = f"doesn't apply to type {service.type}; remove it"
                yield Conflict((*loc, field.name), message, rests_on)
        return
    if service.base_url is None:
        yield Conflict(
            (*loc, "base_url"), f"is missing; type {service.type} needs the service's URL", rests_on
        )
    elif service.api_key is not None and is_in_the_clear(service.base_url):
        yield Conflict((*loc, "base_url"), IN_THE_CLEAR)
    yield from ca_file_conflicts(service.ca_file, loc)
    if not service.model and service.type != "tei":
        yield Conflict(
            (*loc, "model"), f"is missing; type {service.type} needs the name of a model", rests_on
        )
