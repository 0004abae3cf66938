"""Where vectors lie in the index: numbered slots, `SLOTS` of them in one block of bytes.

A slot holds one float16 vector of one model, found by the key of the text it stands for; equal texts share
it. A slot that is let go is filled with zeros at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import apsw

from kbsync.errors import Halted

SLOTS = 256
NUMBER_BYTES = 2
"""Of a vector: float16."""

_ASKED = 64
_FIND_SLOTS = f"SELECT key, id FROM slot WHERE model = ? AND key IN ({', '.join('?' * _ASKED)})"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Model:
    """A row of `model`."""

    id: int
    name: str
    dimensions: int

    @property
    def width(self) -> int:
        """Bytes of a vector."""
        return self.dimensions * NUMBER_BYTES


def find_model(connection: apsw.Connection, name: str) -> Model | None:
    """The model of that name, if the index has vectors of it."""
    row = connection.execute("SELECT id, name, dimensions FROM model WHERE name = ?", (name,)).get
    return Model(*row) if row else None


def ensure_model(connection: apsw.Connection, name: str, dimensions: int) -> Model:
    """The model of that name, made where it is new. Call inside a transaction.

    Raises `Halted` where its vectors used to have another length.
    """
    connection.execute("INSERT OR IGNORE INTO model(name, dimensions) VALUES (?, ?)", (name, dimensions))
    model = find_model(connection, name)
    if model is None:
        raise AssertionError("a row just inserted is there")
    if model.dimensions != dimensions:
        raise Halted(
            "embedding-dimensions",
            f"the model {name} gave vectors of {model.dimensions} numbers until now, and gives {dimensions}",
            cure="set embedding.dimensions in the config: documents are then indexed anew",
        )
    return model


def find_slots(connection: apsw.Connection, model: Model, keys: Iterable[bytes]) -> dict[bytes, int]:
    """The slots of those `keys` that have a vector."""
    found, left = dict[bytes, int](), iter(keys)
    while asked := list(islice(left, _ASKED)):
        padding = [None] * (_ASKED - len(asked))
        found.update(connection.execute(_FIND_SLOTS, (model.id, *asked, *padding)))
    return found


def fill(
    connection: apsw.Connection, model: Model, vectors: Mapping[bytes, bytes], version: int
) -> dict[bytes, int]:
    """Give each key a slot with its vector. None of them may have one. Call inside a transaction."""
    free = _free_slots(connection, model, len(vectors), version)
    taken = dict(zip(vectors, free, strict=True))
    connection.executemany("UPDATE slot SET key = ? WHERE id = ?", taken.items())
    _write(connection, model.width, {slot: vectors[key] for key, slot in taken.items()}, version)
    return taken


def release(connection: apsw.Connection, slots: Iterable[int], version: int) -> None:
    """Empty those of `slots` that no chunk uses any more. Call inside a transaction."""
    for slot in slots:
        if connection.execute("SELECT 1 FROM chunk WHERE slot = ? LIMIT 1", (slot,)).get is None:
            _empty(connection, slot, version)


def _empty(connection: apsw.Connection, slot: int, version: int) -> None:
    """Zero one slot; drop its segment where it was the last."""
    width = connection.execute(
        "SELECT dimensions * 2 FROM model JOIN slot ON slot.model = model.id WHERE slot.id = ?", (slot,)
    ).get
    if width is None:
        return
    connection.execute("UPDATE slot SET key = NULL WHERE id = ?", (slot,))
    _write(connection, width, {slot: bytes(width)}, version)
    segment = slot // SLOTS
    own = (segment * SLOTS, segment * SLOTS + SLOTS - 1)
    if connection.execute("SELECT 1 FROM slot WHERE id BETWEEN ? AND ? AND key NOTNULL", own).get is None:
        connection.execute("DELETE FROM slot WHERE id BETWEEN ? AND ?", own)
        connection.execute("DELETE FROM segment WHERE id = ?", (segment,))
        connection.execute("DELETE FROM block WHERE id = ?", (segment,))


def _free_slots(connection: apsw.Connection, model: Model, count: int, version: int) -> list[int]:
    """`count` free slots, with new segments where the present ones are full."""
    while True:
        free = [
            slot
            for (slot,) in connection.execute(
                "SELECT id FROM slot WHERE model = ? AND key IS NULL ORDER BY id LIMIT ?", (model.id, count)
            )
        ]
        if len(free) == count:
            return free
        for _ in range(-(-(count - len(free)) // SLOTS)):
            _add_segment(connection, model, version)


def _add_segment(connection: apsw.Connection, model: Model, version: int) -> None:
    """A segment of free slots."""
    segment = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM segment").get
    connection.execute("INSERT INTO segment VALUES (?, ?, ?)", (segment, model.id, version))
    connection.execute("INSERT INTO block VALUES (?, zeroblob(?))", (segment, SLOTS * model.width))
    connection.executemany(
        "INSERT INTO slot(id, model) VALUES (?, ?)",
        ((segment * SLOTS + index, model.id) for index in range(SLOTS)),
    )


def _write(connection: apsw.Connection, width: int, vectors: Mapping[int, bytes], version: int) -> None:
    """Write vectors into their slots, neighbours in one go."""
    for first, content in _stretches(vectors):
        segment = first // SLOTS
        with connection.blob_open("main", "block", "vectors", segment, True) as blob:
            blob.seek(first % SLOTS * width)
            blob.write(content)
        connection.execute(
            "UPDATE segment SET version = ?1 WHERE id = ?2 AND version <> ?1", (version, segment)
        )


def _stretches(vectors: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """Slots that follow each other in one segment, with their bytes."""
    first, parts = -1, list[bytes]()
    for slot in sorted(vectors):
        if parts and (slot != first + len(parts) or slot % SLOTS == 0):
            yield first, b"".join(parts)
            parts = []
        first = first if parts else slot
        parts.append(vectors[slot])
    if parts:
        yield first, b"".join(parts)
