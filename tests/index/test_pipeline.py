"""Tests indexing: a service embeds texts while other documents are still being split."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from kbsync.contract.target import Body
from kbsync.errors import Rejected, StateError, Unavailable
from kbsync.index.document import Chunk, Entry, Flavour, Parsed
from kbsync.index.embed import Vectors
from kbsync.index.pipeline import Pipeline, cut_here
from tests.targets.bodies import BytesBody

VECTOR = b"\0\0"


class Making(Future[Vectors]):
    """An embedding in progress at `EncoderService`; `refused`: a word whose texts get no vectors."""

    def __init__(self, chunks: Sequence[Chunk], refused: str) -> None:
        super().__init__()
        self.texts = [chunk.text for chunk in chunks]
        self.vectors = {
            chunk.key: Rejected("no") if refused and refused in chunk.text else VECTOR for chunk in chunks
        }

    def result(self, timeout: float | None = None) -> Vectors:
        return self.vectors


class EncoderService:
    """The encoder of a service that accepts two texts in a request."""

    at_once, model, takes_pictures, least_cosine = 2, "words", False, 0.0

    def __init__(self, refused: str = "") -> None:
        self.batches: list[Making] = []
        self._refused = refused

    def begin(self, chunks: Sequence[Chunk]) -> Making:
        self.batches.append(Making(chunks, self._refused))
        return self.batches[-1]

    @property
    def sizes(self) -> list[int]:
        return [len(batch.texts) for batch in self.batches]


def preparation(service: EncoderService, **parts: Any) -> Pipeline:
    settings = {
        "parse": lambda path, _body: text(path),
        "find_embedded": lambda _model, _keys: set(),
        **parts,
    }
    return Pipeline(cut_here(settings["parse"]), service, settings["find_embedded"], 10**9)  # type: ignore[arg-type]


def documents(count: int) -> list[tuple[Entry, Body]]:
    return [
        (Entry(number, f"{number}.txt", f"{number}.txt", f"{number:064}", 1, "r", 1.0), BytesBody(b"?"))
        for number in range(count)
    ]


def text(words: str) -> Parsed:
    return Parsed(words, Flavour.PLAIN)


def test_service_is_called_while_documents_are_still_being_split() -> None:
    service, observed = EncoderService(), list[list[int]]()

    def parse(path: str, _body: Any) -> Parsed:
        observed.append(service.sizes)
        return text(path)

    (batch,) = preparation(service, parse=parse).batches(documents(5))
    assert observed == [[], [], [2], [2], [2, 2]]
    assert service.sizes == [2, 2, 1]
    vectors = [entry.vectors for entry in batch if isinstance(entry, Entry)]
    assert [list(vector.values()) for vector in vectors] == [[VECTOR]] * 5


def test_each_missing_vector_is_requested_once() -> None:
    service, requests = EncoderService(), list[str]()

    def find_embedded(_model: str, keys: Sequence[str]) -> set[str]:
        requests.extend(keys)
        return set(keys[:1])

    texts = iter("abcadb")
    (batch,) = preparation(service, parse=lambda *_: text(next(texts)), find_embedded=find_embedded).batches(
        documents(6)
    )
    assert len(requests) == len(set(requests)) == 4
    assert sorted(text for request in service.batches for text in request.texts) == ["b", "d"]
    assert all(isinstance(entry, Entry) for entry in batch)


def test_refused_text_fails_every_document_containing_it() -> None:
    texts = iter(["fine", "poison", "good", "poison"])
    batches = preparation(EncoderService("poison"), parse=lambda *_: text(next(texts))).batches(documents(4))
    assert [isinstance(outcome, Rejected) for outcome in next(batches)] == [False, True, False, True]


class BusyService(EncoderService):
    """A service that accepts one request at a time, and then asks for a pause."""

    def begin(self, chunks: Sequence[Chunk]) -> Making:
        making = super().begin(chunks)
        if len(self.batches) == 1:
            making.set_result(making.vectors)
        else:
            making.set_exception(Unavailable("slow down"))
        making.result = partial(Future.result, making)  # type: ignore[method-assign]
        return making


def test_vectors_of_a_failed_batch_are_not_requested_again() -> None:
    """Otherwise, a service that often asks for a pause would never finish a book."""
    service, requested = BusyService(), list[str]()
    pipeline = preparation(service)
    for _ in range(2):
        with pytest.raises(Unavailable):
            next(pipeline.batches(documents(6)))
        requested += service.batches[0].texts
        service.batches.clear()
    (batch,) = pipeline.batches(documents(6))
    requested += service.batches[0].texts
    assert sorted(requested) == [f"{number}.txt" for number in range(6)]
    vectors = [entry.vectors for entry in batch if isinstance(entry, Entry)]
    assert [list(vector.values()) for vector in vectors] == [[VECTOR]] * 6


def test_remaining_work_is_abandoned_when_the_rest_is_unavailable() -> None:
    service, calls = EncoderService(), list[int]()

    def find_embedded(_model: str, keys: Sequence[str]) -> set[str]:
        calls.append(len(keys))
        if len(calls) == 2:
            raise StateError("the disk is full")
        return set()

    with pytest.raises(StateError):
        list(preparation(service, find_embedded=find_embedded).batches(documents(4)))
    assert [batch.cancelled() for batch in service.batches] == [True]
