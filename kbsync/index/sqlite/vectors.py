"""Where vectors lie in the index, and the cosine of a question with all of them.

They lie in numbered slots, `SLOTS` of them in one block of bytes. A slot holds one float16 vector of one
model, found by the key of the text it stands for; equal texts share it. A slot that is let go is filled with
zeros at once (promise 11).

The first scan reads them from the file block by block and keeps none, so that a command that searches once
stays small; from the second on they are kept as float32 (nine times as fast) and only blocks that changed
are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING

import apsw

from kbsync.index.errors import other_dimensions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
        raise other_dimensions(name, model.dimensions, dimensions)
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


def read(connection: apsw.Connection, model: Model, slots: Iterable[int]) -> dict[int, bytes]:
    """The vectors in these slots, as they were put in."""
    found = dict[int, bytes]()
    for segment, own in groupby(sorted(set(slots)), lambda slot: slot // SLOTS):
        with connection.blob_open("main", "block", "vectors", segment, False) as blob:
            for slot in own:
                blob.seek(slot % SLOTS * model.width)
                found[slot] = blob.read(model.width)
    return found


def release(connection: apsw.Connection, slots: Iterable[int], version: int) -> None:
    """Zero those of `slots` that no chunk uses any more; drop segments that have no vector then.

    Call inside a transaction.
    """
    used = "SELECT 1 FROM chunk WHERE slot = ? LIMIT 1"
    width_of = "SELECT dimensions * 2 FROM model JOIN slot ON slot.model = model.id WHERE slot.id = ?"
    kept = "SELECT 1 FROM slot WHERE id BETWEEN ? AND ? AND key NOTNULL"
    for slot in slots:
        if connection.execute(used, (slot,)).get is not None:
            continue
        width = connection.execute(width_of, (slot,)).get
        if width is None:
            continue
        connection.execute("UPDATE slot SET key = NULL WHERE id = ?", (slot,))
        _write(connection, width, {slot: bytes(width)}, version)
        segment = slot // SLOTS
        own = (segment * SLOTS, segment * SLOTS + SLOTS - 1)
        if connection.execute(kept, own).get is None:
            connection.execute("DELETE FROM slot WHERE id BETWEEN ? AND ?", own)
            connection.execute("DELETE FROM segment WHERE id = ?", (segment,))
            connection.execute("DELETE FROM block WHERE id = ?", (segment,))


def _free_slots(connection: apsw.Connection, model: Model, count: int, version: int) -> list[int]:
    """`count` free slots, with new segments where the present ones are full."""
    find = "SELECT id FROM slot WHERE model = ? AND key IS NULL ORDER BY id LIMIT ?"
    while True:
        free = [slot for (slot,) in connection.execute(find, (model.id, count))]
        if len(free) == count:
            return free
        for _ in range(-(-(count - len(free)) // SLOTS)):
            segment = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM segment").get
            connection.execute("INSERT INTO segment VALUES (?, ?, ?)", (segment, model.id, version))
            connection.execute("INSERT INTO block VALUES (?, zeroblob(?))", (segment, SLOTS * model.width))
            own = ((segment * SLOTS + index, model.id) for index in range(SLOTS))
            connection.executemany("INSERT INTO slot(id, model) VALUES (?, ?)", own)


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


_MOST_BYTES = 512 * 2**20  # beyond it every scan reads the file: 8 times as slow, and bounded


class Cosines:
    """The cosine of a question with every slot."""

    def __init__(self, places: Mapping[int, int], values: NDArray[np.float32]) -> None:
        """`values[places[segment] * SLOTS + i]` belongs to slot `segment * SLOTS + i`."""
        self._places = places
        self._segments = {place: segment for segment, place in places.items()}
        self._values = values

    def of(self, slot: int) -> float:
        """The cosine with one slot; 0 where there is none."""
        place = self._places.get(slot // SLOTS)
        return 0.0 if place is None else float(self._values[place * SLOTS + slot % SLOTS])

    def best(self, start: int, stop: int, least: float = 0.0) -> list[int]:
        """The slots at ranks `start` to `stop`, nearest first, those that are nearer than `least`."""
        import numpy as np

        values, stop = self._values, min(stop, len(self._values))
        top = np.argpartition(values, -stop)[-stop:] if stop else values[:0]
        order = sorted(map(int, top), key=lambda at: (-values[at], at))[start:stop]
        return [self._segments[at // SLOTS] * SLOTS + at % SLOTS for at in order if values[at] > least]


class Matrix:
    """Scans the vectors of one model through `connection`.

    Kept vectors are one array, in which each segment has a place; a place that was let go is zeros.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        """Reads nothing yet."""
        self._connection = connection
        self._scans = 0
        self._kept: NDArray[np.float32] | None = None
        self._places: dict[int, int] = {}
        self._versions: dict[int, int] = {}
        self._free: list[int] = []

    def cosines(self, model: Model, vector: NDArray[np.float32]) -> Cosines:
        """The cosine of `vector` (length 1) with every slot, as of the transaction that is open."""
        import numpy as np

        listed = "SELECT id, version FROM segment WHERE model = ? ORDER BY id"
        versions: dict[int, int] = dict(self._connection.execute(listed, (model.id,)))
        self._scans += 1
        if self._scans >= 2 and len(versions) * SLOTS * model.dimensions * 4 <= _MOST_BYTES:
            kept = self._refresh(model, versions)
            return Cosines(dict(self._places), _products(kept, vector))
        self._kept, self._places, self._versions, self._free = None, {}, {}, []
        places = {segment: place for place, segment in enumerate(versions)}
        values = np.zeros(len(places) * SLOTS, np.float32)
        for place, block in enumerate(self._read(model, places)):
            values[place * SLOTS : (place + 1) * SLOTS] = _products(block, vector)
        return Cosines(places, values)

    def _refresh(self, model: Model, versions: Mapping[int, int]) -> NDArray[np.float32]:
        """The kept vectors: segments that are gone forgotten, those that changed read again."""
        import numpy as np

        kept = np.zeros((0, model.dimensions), np.float32) if self._kept is None else self._kept
        for segment in self._places.keys() - versions.keys():
            place = self._places.pop(segment)
            kept[place * SLOTS : (place + 1) * SLOTS] = 0
            self._free.append(place)
            del self._versions[segment]
        places = len(kept) // SLOTS
        if len(versions) > places:  # an eighth more than needed, so that growing is rare
            more = len(versions) + len(versions) // 8 + 1
            grown = np.zeros((more * SLOTS, model.dimensions), np.float32)
            grown[: len(kept)] = kept
            kept = grown
            self._free.extend(range(places, more))
        self._kept = kept
        stale = [segment for segment, version in versions.items() if self._versions.get(segment) != version]
        for segment, block in zip(stale, self._read(model, stale), strict=True):
            if segment not in self._places:
                self._places[segment] = self._free.pop()
            place = self._places[segment]
            kept[place * SLOTS : (place + 1) * SLOTS] = block
            self._versions[segment] = versions[segment]
        return kept

    def _read(self, model: Model, segments: Iterable[int]) -> Iterator[NDArray[np.float32]]:
        """The vectors of each segment from the file."""
        import numpy as np

        for segment in segments:
            raw = self._connection.execute("SELECT vectors FROM block WHERE id = ?", (segment,)).get
            yield np.frombuffer(raw, np.float16).reshape(SLOTS, model.dimensions).astype(np.float32)


def _products(vectors: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The product of each row with `vector`.

    einsum keeps to this thread: 4 ms for 100,000 rows. `@` calls BLAS, which takes 9 ms of processor time
    and, where its threads have to wait for a busy machine, half a second.
    """
    import numpy as np

    products: NDArray[np.float32] = np.einsum("ij,j->i", vectors, vector)
    return products
