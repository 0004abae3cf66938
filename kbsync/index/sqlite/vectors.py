"""Stores vectors in the index, and computes a question's cosine with each of them.

Vectors are in numbered slots, `SLOTS` of them in one block of bytes. A slot holds one float16 vector of one
model, found by the key of its text; equal texts share a slot. A released slot is zeroed at once (promise
11), and so is the vector of a better model at the same place of the block in `better`. In a large index,
blocks have a different layout (planes.py), so that the first search of a process reads a quarter of the
bytes. `tidy` converts the blocks of a file that has grown, or that an earlier version wrote.

The first scan reads vectors from the file block by block and caches none, so a command that searches once
uses little memory. From the second scan on they are cached as int8, and only changed blocks are reread. A
search corrects the cosines of its best candidates from the stored vectors.

Measured on 43,230 passages from documentation, code and XQuAD with 400 questions: int8 alone finds 99.1% of
the ten nearest passages, and all of them once the nearest 50 are corrected; no cosine is off by more than
0.0035.

In a large index, a search multiplies the first half of each vector, and the second half only for the slots
that then look nearest. With a million passages of real text, these contain all of the ten nearest and 99.2%
of the 150 nearest (75 questions). Another thread does this while the search looks up words, and the search
joins in once it needs the result.
"""

from __future__ import annotations

import heapq
import struct
import threading
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from importlib import import_module
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Any

import apsw

from kbsync.dataclass import dataclass
from kbsync.index.embed import NUMBER_BYTES
from kbsync.index.errors import dimensions_changed
from kbsync.index.sqlite import planes
from kbsync.index.sqlite.planes import SLOTS, Planes, quantized
from kbsync.index.sqlite.readahead import RowPages, reading_ahead
from kbsync.index.weights import DEPTH, SAMPLED_VECTORS, least_cosine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kbsync.index.embed import Vector


_KEYS_AT_ONCE = 64
_FIND_SLOTS = f"SELECT key, id FROM slot WHERE model = ? AND key IN ({', '.join('?' * _KEYS_AT_ONCE)})"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Model:
    """A row of `model`."""

    id: int
    dimensions: int

    @property
    def width(self) -> int:
        """The size of a vector in bytes."""
        return self.dimensions * NUMBER_BYTES


def find_model(connection: apsw.Connection, name: str) -> Model | None:
    """Return the model with this name, if the index has vectors from it."""
    row = connection.execute("SELECT id, dimensions FROM model WHERE name = ?", (name,)).get
    return Model(*row) if row else None


def ensure_model(connection: apsw.Connection, name: str, dimensions: int) -> Model:
    """Return the model with this name, creating it if it is new. Call this inside a transaction.

    Raises `Halted` if the model's earlier vectors have a different length.
    """
    connection.execute("INSERT OR IGNORE INTO model(name, dimensions) VALUES (?, ?)", (name, dimensions))
    model = find_model(connection, name)
    assert model is not None
    if model.dimensions != dimensions:
        raise dimensions_changed(name, model.dimensions, dimensions)
    return model


def find_slots(connection: apsw.Connection, model: Model, keys: Iterable[bytes]) -> dict[bytes, int]:
    """Return the slots of the `keys` that have a vector."""
    slots, remaining = dict[bytes, int](), iter(keys)
    while batch := list(islice(remaining, _KEYS_AT_ONCE)):
        padding = [None] * (_KEYS_AT_ONCE - len(batch))
        slots.update(connection.execute(_FIND_SLOTS, (model.id, *batch, *padding)))
    return slots


def fill(
    connection: apsw.Connection, model: Model, vectors: Mapping[bytes, bytes], version: int
) -> dict[bytes, int]:
    """Give each key a slot with its vector. No key may have a slot yet. Call this inside a transaction."""
    find = "SELECT id FROM slot WHERE model = ? AND key IS NULL ORDER BY id LIMIT ?"
    while True:
        free = [slot for (slot,) in connection.execute(find, (model.id, len(vectors)))]
        missing = len(vectors) - len(free)
        if not missing:
            break
        is_planar = connection.execute(_HAS_PLANES, (model.id,)).get is not None
        for _ in range(-(-missing // SLOTS)):
            segment = connection.execute(_NEXT_SEGMENT).get
            if is_planar:
                insert = "INSERT INTO planar_segment VALUES (?, ?, ?, zeroblob(?))"
                size = SLOTS * planes.FACTOR_BYTES
                connection.execute(insert, (segment, model.id, version, size))
            else:
                connection.execute("INSERT INTO segment VALUES (?, ?, ?)", (segment, model.id, version))
            connection.execute("INSERT INTO block VALUES (?, zeroblob(?))", (segment, SLOTS * model.width))
            new_rows = ((segment * SLOTS + index, model.id) for index in range(SLOTS))
            connection.executemany("INSERT INTO slot(id, model) VALUES (?, ?)", new_rows)
    slots = dict(zip(vectors, free, strict=True))
    connection.executemany("UPDATE slot SET key = ? WHERE id = ?", slots.items())
    _write(connection, model.width, {slot: vectors[key] for key, slot in slots.items()})
    _mark_changed(connection, slots.values(), version)
    return slots


def read(
    connection: apsw.Connection, width: int, slots: Iterable[int], table: str = "block"
) -> dict[int, bytes]:
    """Return the vectors in these slots as they are stored. Each has `width` bytes."""
    by_slot = dict[int, bytes]()
    for segment, segment_slots in groupby(sorted(set(slots)), lambda slot: slot // SLOTS):
        with connection.blob_open("main", table, "vectors", segment, False) as blob:
            if table == "block" and _is_planar(connection, segment):
                places = (slot % SLOTS for slot in segment_slots)
                with connection.blob_open("main", "planar_segment", "factors", segment, False) as factors:
                    for place, vector in planes.read(factors, blob, places, width // NUMBER_BYTES):
                        by_slot[segment * SLOTS + place] = vector
                continue
            for slot in segment_slots:
                blob.seek(slot % SLOTS * width)
                by_slot[slot] = blob.read(width)
    return by_slot


def estimate_least_cosine(connection: apsw.Connection, model: Model) -> float:
    """Estimate the cosine below which texts are unrelated, from a sample of the vectors."""
    import numpy as np

    # A key is a digest, so the first keys are a random sample, and the same one in every store.
    find = "SELECT id FROM slot WHERE model = ? AND key NOTNULL ORDER BY key LIMIT ?"
    slots = (slot for (slot,) in connection.execute(find, (model.id, SAMPLED_VECTORS)))
    sample = read(connection, model.width, slots)
    if not sample:
        return 0.0
    stored = np.frombuffer(b"".join(sample.values()), np.float16).reshape(-1, model.dimensions)
    mean = stored.mean(axis=0, dtype=np.float64)
    mean_square = np.square(stored, dtype=np.float64).sum() / len(stored)
    return least_cosine(len(stored), float(mean_square), float(mean @ mean))


def release(connection: apsw.Connection, slots: Iterable[int], version: int) -> None:
    """Zero each of the `slots` that no chunk uses any longer, then drop segments without vectors.

    Call this inside a transaction.
    """
    find_user = "SELECT 1 FROM chunk WHERE slot = ? LIMIT 1"
    width_of = "SELECT dimensions * 2 FROM model JOIN slot ON slot.model = model.id WHERE slot.id = ?"
    find_key = "SELECT 1 FROM slot WHERE id BETWEEN ? AND ? AND key NOTNULL"
    for slot in slots:
        if connection.execute(find_user, (slot,)).get is not None:
            continue
        width = connection.execute(width_of, (slot,)).get
        if width is None:
            continue
        connection.execute("UPDATE slot SET key = NULL WHERE id = ?", (slot,))
        _write(connection, width, {slot: bytes(width)})
        _mark_changed(connection, [slot], version)
        _release_better(connection, slot, version)
        segment = slot // SLOTS
        segment_range = (segment * SLOTS, segment * SLOTS + SLOTS - 1)
        if connection.execute(find_key, segment_range).get is None:
            connection.execute("DELETE FROM slot WHERE id BETWEEN ? AND ?", segment_range)
            for table in ("segment", "block", "planar_segment", "better"):
                connection.execute(f"DELETE FROM {table} WHERE id = ?", (segment,))  # noqa: S608


def _release_better(connection: apsw.Connection, slot: int, version: int) -> None:
    """Zero the better vector of a slot, if it has one."""
    segment = slot // SLOTS
    width_of = "SELECT dimensions * 2 FROM model JOIN better ON better.model = model.id WHERE better.id = ?"
    width = connection.execute(width_of, (segment,)).get
    if width is not None and any(read(connection, width, [slot], "better")[slot]):
        _write(connection, width, {slot: bytes(width)}, "better")
        update = "UPDATE better SET count = count - 1, version = ? WHERE id = ?"
        connection.execute(update, (version, segment))


def find_without_better(
    connection: apsw.Connection, model: Model, better: Model | None, limit: int, skipped: Collection[bytes]
) -> list[tuple[bytes, int]]:
    """Return up to `limit` slots of `model`, with their keys, that don't have a vector from `better`."""
    pairs = list[tuple[bytes, int]]()
    for segment, _ in connection.execute(_INCOMPLETE, (model.id, 0 if better is None else better.id)):
        row = connection.execute("SELECT model FROM better WHERE id = ?", (segment,)).get
        places = range(segment * SLOTS, segment * SLOTS + SLOTS)
        stored = read(connection, better.width, places, "better") if better and row == better.id else {}
        for key, slot in connection.execute(_KEYED, (places[0], places[-1])):
            if key not in skipped and not any(stored.get(slot, b"")):
                pairs.append((key, slot))
                if len(pairs) == limit:
                    return pairs
    return pairs


def fill_better(
    connection: apsw.Connection, model: Model, better: Model, vectors: Mapping[bytes, bytes], version: int
) -> None:
    """Store vectors from `better` for the keys that still have a slot of `model`. Call this inside a
    transaction.

    Vectors from other models in the same blocks are dropped.
    """
    by_slot = {slot: vectors[key] for key, slot in find_slots(connection, model, vectors).items()}
    for segment, slots in groupby(sorted(by_slot), lambda slot: slot // SLOTS):
        row = connection.execute("SELECT model FROM better WHERE id = ?", (segment,)).get
        if row != better.id:
            connection.execute(
                "REPLACE INTO better VALUES (?, ?, ?, 0, zeroblob(?))",
                (segment, better.id, version, SLOTS * better.width),
            )
        fresh = {slot: by_slot[slot] for slot in slots}
        added = sum(not any(stored) for stored in read(connection, better.width, fresh, "better").values())
        _write(connection, better.width, fresh, "better")
        connection.execute(
            "UPDATE better SET count = count + ?, version = ? WHERE id = ?", (added, version, segment)
        )


def count_better(connection: apsw.Connection, model: str, better: str) -> tuple[int, int] | None:
    """Return the number of different passages of `model` that have a vector from `better`, and the total
    number of passages.

    Return None if the index has no vectors from `model`.
    """
    first, second = find_model(connection, model), find_model(connection, better)
    if first is None:
        return None
    count_query = "SELECT coalesce(sum(count), 0) FROM better WHERE model = ?"
    every = "SELECT count(*) FROM slot WHERE model = ? AND key NOTNULL"
    count: int = connection.execute(count_query, (second.id,)).get if second else 0
    return count, connection.execute(every, (first.id,)).get


_KEYED = "SELECT key, id FROM slot WHERE id BETWEEN ? AND ? AND key NOTNULL ORDER BY id"
_INCOMPLETE = f"""
SELECT segment.id, (SELECT count FROM better WHERE better.id = segment.id AND better.model = ?2) AS made
  FROM (SELECT id, model FROM segment UNION ALL SELECT id, model FROM planar_segment) AS segment
  WHERE segment.model = ?1 AND coalesce(made, 0) < (
    SELECT count(*) FROM slot
      WHERE slot.id BETWEEN segment.id * {SLOTS} AND segment.id * {SLOTS} + {SLOTS - 1} AND key NOTNULL)
  ORDER BY segment.id
"""  # noqa: S608


def _write(
    connection: apsw.Connection, width: int, vectors: Mapping[int, bytes], table: str = "block"
) -> None:
    """Write vectors to their slots. Write consecutive vectors together."""
    # Consecutive slots have the same distance from their positions in the list.
    runs = groupby(enumerate(sorted(vectors)), lambda item: (item[1] // SLOTS, item[1] - item[0]))
    for (segment, _), run in runs:
        slots = [slot for _, slot in run]
        with connection.blob_open("main", table, "vectors", segment, True) as blob:
            if table == "block" and _is_planar(connection, segment):
                by_place = {slot % SLOTS: vectors[slot] for slot in slots}
                with connection.blob_open("main", "planar_segment", "factors", segment, True) as factors:
                    planes.write(factors, blob, by_place, width // NUMBER_BYTES)
                continue
            blob.seek(slots[0] % SLOTS * width)
            blob.write(b"".join(vectors[slot] for slot in slots))


def _mark_changed(connection: apsw.Connection, slots: Iterable[int], version: int) -> None:
    """Record that the vectors in the segments of these slots have changed."""
    segments = {(version, slot // SLOTS) for slot in slots}
    for table in ("segment", "planar_segment"):
        update = f"UPDATE {table} SET version = ?1 WHERE id = ?2 AND version <> ?1"  # noqa: S608
        connection.executemany(update, segments)


def _is_planar(connection: apsw.Connection, segment: int) -> bool:
    """Return whether the vectors of a segment are stored in planes."""
    find = "SELECT 1 FROM planar_segment WHERE id = ?"
    return has_planes(connection) and connection.execute(find, (segment,)).get is not None


def has_planes(connection: apsw.Connection) -> bool:
    """Return whether a file has the tables for planes, which earlier versions of kbsync didn't create."""
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'planar_segment'").get is not None


def find_convertible(connection: apsw.Connection) -> list[tuple[int, int, int, int]]:
    """Return a few segments of a large index that aren't stored in planes yet, each with its id, model,
    version and number of dimensions.
    """
    rows: list[Any] = connection.execute(_CONVERTIBLE, (_FEW_SLOTS // SLOTS, _CONVERTED_AT_ONCE)).fetchall()
    return rows


def convert(connection: apsw.Connection, segments: Iterable[tuple[int, int, int, int]]) -> None:
    """Store the vectors of these segments in planes. Call this inside a transaction."""
    for segment, model, version, dimensions in segments:
        with connection.blob_open("main", "block", "vectors", segment, True) as blob:
            factors, block = planes.encode_block(blob.read(), dimensions)
            blob.seek(0)
            blob.write(block)
        connection.execute("DELETE FROM segment WHERE id = ?", (segment,))
        # A process that has these vectors in memory needn't reread them, so the version stays.
        insert = "INSERT INTO planar_segment VALUES (?, ?, ?, ?)"
        connection.execute(insert, (segment, model, version, factors))


_HAS_PLANES = "SELECT 1 FROM planar_segment WHERE model = ? LIMIT 1"
_NEXT_SEGMENT = """
SELECT 1 + max(coalesce((SELECT max(id) FROM segment), 0), coalesce((SELECT max(id) FROM planar_segment), 0))
"""
_CONVERTIBLE = """
SELECT segment.id, model, version, dimensions FROM segment JOIN model ON model.id = model
  WHERE dimensions > 1 AND (
    model IN (SELECT model FROM planar_segment)
    OR model IN (SELECT model FROM segment GROUP BY model HAVING count(*) > ?))
  ORDER BY segment.id LIMIT ?
"""
_CONVERTED_AT_ONCE = 16
"""Number of segments to convert in one transaction. The conversion takes about 0.1 s."""

_MAX_BYTES = 512 * 2**20  # of cached vectors; with more, every scan reads the file

_FEW_SLOTS = 128_000
"""Maximum number of slots for which the first search of a process avoids numpy.

Importing numpy takes as long as searching twice this number of slots without it.
"""

_MIN_BETTER_SLOTS = 100
"""Minimum number of slots that must have a better vector before these vectors are used, unless all slots have
one."""

_NEAREST_ADJUSTED, _MAX_SPREAD_RATIO = 30, 4.0
"""Number of nearest slots whose cosines from the two models are compared, and the maximum ratio of the
spreads of these cosines.
"""


class Cosines:
    """A question's cosines with every slot."""

    def __init__(
        self,
        places: Mapping[int, int],
        values: NDArray[np.float32] | array[float],
        compute: Callable[[Iterable[int]], Mapping[int, float]] | None = None,
        rest: Callable[[NDArray[np.intp] | slice], NDArray[np.float32]] | None = None,
        near_count: int | None = None,
    ) -> None:
        """Store the values. `values[places[segment] * SLOTS + i]` belongs to slot `segment * SLOTS + i`.

        `compute`: computes cosines from the stored vectors, if `values` are approximate. `rest`: if `values`
        come only from the first half of the vectors, returns what to add to the values at some positions, or
        at all positions for `slice(None)`. `near_count`: roughly for how many positions to do this at first.
        """
        self._places = places
        self._segments = {block: segment for segment, block in places.items()}
        self._values = values
        self._compute = compute
        self._rest = rest
        self._near_count = near_count or _NEAR
        self._near: tuple[NDArray[np.intp], NDArray[np.float32]] | None = None

    def exact(self, slots: Iterable[int]) -> Mapping[int, float]:
        """Return the exact cosines of these slots, computed from the stored vectors. Return {} if the
        known cosines aren't approximate.
        """
        if self._compute is None:
            return {}
        return self._compute(slot for slot in slots if slot // SLOTS in self._places)

    def replace_by_better(
        self, better: Cosines, scale: float, offset: float, other_factor: float = 1.0
    ) -> None:
        """For slots with a vector in `better`, set the cosine to the better cosine × `scale` + `offset`.

        The other cosines are rescaled to be comparable, by the mean and spread of both cosines over the
        nearest slots that have both vectors. They are then multiplied by `other_factor`. If too few slots
        have both vectors, nothing changes.
        """
        import numpy as np

        segments = [segment for segment in better._places if segment in self._places]
        places = [self._places[segment] for segment in segments]
        self._values = np.asarray(self._complete())
        ours, theirs = self._values.reshape(-1, SLOTS), np.asarray(better._complete()).reshape(-1, SLOTS)
        values = theirs[[better._places[segment] for segment in segments]]
        has_both = values != 0
        count = int(has_both.sum())
        is_partial = count < int((self._values != 0).sum())
        if is_partial and count < _MIN_BETTER_SLOTS:
            return
        self._compute = None
        values = values * scale + offset
        if is_partial:
            first, second = (
                np.partition(cosines[has_both], -_NEAREST_ADJUSTED)[-_NEAREST_ADJUSTED:]
                for cosines in (ours[places], values)
            )
            ratio = np.clip(second.std() / max(first.std(), 1e-6), 1 / _MAX_SPREAD_RATIO, _MAX_SPREAD_RATIO)
            adjusted = second.mean() + (self._values - first.mean()) * ratio
            np.copyto(self._values, other_factor * adjusted, where=self._values != 0)
        ours[places] = np.where(has_both, values, ours[places])

    def of(self, slots: Iterable[int]) -> dict[int, float]:
        """Return the cosines of these slots, leaving out those that have no vector."""
        places = self._places
        positions = {
            slot: places[slot // SLOTS] * SLOTS + slot % SLOTS for slot in slots if slot // SLOTS in places
        }
        if isinstance(self._values, array):
            return {slot: self._values[position] for slot, position in positions.items()}
        import numpy as np

        listed = np.fromiter(positions.values(), np.intp, len(positions))
        values = self._values[listed]
        if self._rest is not None and len(listed):
            values = values + self._rest(listed)
        return dict(zip(positions, values.tolist(), strict=True))

    def _complete(self) -> NDArray[np.float32] | array[float]:
        """Return the values, computed from both halves of every vector."""
        if self._rest is not None and not isinstance(self._values, array):
            self._values += self._rest(slice(None))
            self._rest = self._near = None
        return self._values

    def best(self, start: int, stop: int, least: float = 0.0) -> list[int]:
        """Return the slots at ranks `start` to `stop` whose cosine is above `least`, the nearest first."""
        if isinstance(self._values, array) and len(self._values) <= _FEW_SLOTS:
            few = self._values.tolist()
            lowest = min(heapq.nlargest(stop, few), default=0.0)
            best = (position for position, value in enumerate(few) if value >= lowest)
            ranked = sorted(best, key=lambda position: (-few[position], position))[start:stop]
            return self._slots_above(least, ranked, map(few.__getitem__, ranked))
        import numpy as np

        if self._rest is not None and stop <= _MAX_NEAREST and (near := self._find_near(stop)) is not None:
            positions, values = near
            return self._slots_above(least, positions[start:].tolist(), values[start:].tolist())
        values = np.asarray(self._complete())
        top = None
        if len(values) > 64 * stop:
            # A limit from a sample of every 16th value leaves few values to compare, and nearly always
            # enough.
            sample, rank = values[::16], stop // 8 + 32
            above = np.flatnonzero(values >= np.partition(sample, -rank)[-rank])
            top = above if len(above) >= stop else None
        if top is None:
            top = np.arange(len(values))
        if stop < len(top):
            top = top[np.argpartition(values[top], -stop)[-stop:]]
        top = top[np.lexsort((top, -values[top]))][start:stop]
        return self._slots_above(least, top.tolist(), values[top].tolist())

    def find_near(self) -> None:
        """Find the nearest slots, judging by the first half of each vector. This makes `best` fast."""
        if self._rest is not None and self._find_near(DEPTH) is None:
            self._complete()

    def _find_near(self, stop: int) -> tuple[NDArray[np.intp], NDArray[np.float32]] | None:
        """Return the positions and values of the `stop` highest values, in descending order, or None if
        other values may be higher.

        Only positions with a high value for the first half of their vector are considered.
        """
        import numpy as np

        if self._rest is None or isinstance(self._values, array):
            return None
        for count in self._near_count, 4 * self._near_count:
            if 2 * count > len(self._values):
                break
            if self._near is None or len(self._near[0]) < count // 2:
                sample, rank = self._values[::16], count // 16
                nearest = np.flatnonzero(self._values >= np.partition(sample, -rank)[-rank])
                self._near = nearest, self._values[nearest] + self._rest(nearest)
            positions, values = self._near
            if stop <= len(positions) <= 4 * count:  # there are more if many values are equal
                top = np.argpartition(values, -stop)[-stop:]
                first_halves = self._values[positions]
                # If the lower half has many of the nearest, so may the slots below it.
                middle = len(first_halves) // 2  # np.median would import 60 ms of other code
                median = np.partition(first_halves, middle)[middle]
                if np.count_nonzero(first_halves[top] < median) <= stop // 8:
                    top = top[np.lexsort((top, -values[top]))]
                    return positions[top], values[top]
        return None

    def _slots_above(self, least: float, positions: Iterable[int], values: Iterable[float]) -> list[int]:
        """Return the slots at these positions whose values are above `least`."""
        return [
            self._segments[position // SLOTS] * SLOTS + position % SLOTS
            for position, value in zip(positions, values, strict=True)
            if value > least
        ]


class Matrix:
    """Scans the vectors of one model through `connection`.

    The cache is an array with a block for each segment; a released block contains zeros. For a large index,
    the cache is two arrays, each with one half of every vector.
    """

    def __init__(self, connection: apsw.Connection, segments: str = "segment", blocks: str = "block") -> None:
        """Set up the scan without reading anything.

        `segments`, `blocks`: the tables with the versions and with the vectors.
        """
        self._connection, self._blocks = connection, blocks
        self._listed = f"SELECT id, version FROM {segments} WHERE model = ? ORDER BY id"  # noqa: S608
        self._scans = 0
        self._drop()

    def _drop(self) -> None:
        """Drop the cache."""
        self._cached: list[NDArray[np.int8]] = []
        self._scales: NDArray[np.float32] | None = None
        """Scale factor of each cached vector: its components are the cached integers times this factor."""
        self._cached_commit: tuple[int, int] | None = None
        """The model and the commit that the cached vectors belong to."""
        self._places: dict[int, int] = {}
        self._versions: dict[int, int] = {}
        self._free: list[int] = []
        """Blocks that don't belong to any segment; the last one is used next."""
        self._rows = 0
        """Number of rows up to the end of the last block in use; a search skips the rows after it."""

    def start(self, model: Model, vector: Vector) -> Callable[[], Cosines]:
        """Start computing the cosine of `vector` (length 1) with every slot, as seen by the open transaction.

        Return a function that waits for the cosines. In a large cached index, they are computed in the
        meantime by another thread, which doesn't use the connection.
        """
        self._scans += 1
        commit = model.id, self._connection.pragma("data_version")
        if self._cached_commit != commit:
            versions: dict[int, int] = dict(self._connection.execute(self._listed, (model.id,)))
            planar = dict[int, int]()
            if self._blocks == "block" and has_planes(self._connection):
                planar = dict(self._connection.execute(_PLANAR, (model.id,)))
            is_large = (len(versions) + len(planar)) * SLOTS * model.dimensions > _MAX_BYTES
            if not (versions or planar) or self._scans < 2 or is_large:
                self._drop()
                # While some vectors are still being converted, a search also reads all the others whole.
                stored = (
                    self._scan_planes(model, vector, list(planar))
                    if planar and not versions
                    else self._scan_stored(model, vector, list(versions), list(planar))
                )
                return lambda: stored
            self._refresh(model, versions, planar)
            self._cached_commit = commit
        assert self._scales is not None  # the cache was just filled
        import numpy as np

        scale, numbers = quantized(np.asarray(vector)[None])
        scales, cached = self._scales[: self._rows], [half[: self._rows] for half in self._cached]
        first, places = cached[0].shape[1], dict(self._places)
        compute = partial(self._compute, model, vector)

        def rest(positions: NDArray[np.intp] | slice) -> NDArray[np.float32]:
            factors = scales[positions]
            products = np.empty(len(factors), np.float32)
            for at in range(0, len(products), _NEAR):
                part = slice(at, at + _NEAR)
                rows = cached[1][part if isinstance(positions, slice) else positions[part]]
                products[part] = _products(numbers[:, first:], rows)
            products *= factors
            products *= scale
            return products

        values = np.empty(self._rows, np.float32)

        def multiply(part: slice) -> None:
            np.multiply(_products(numbers[:, :first], cached[0][part]), scales[part], out=values[part])
            values[part] *= scale

        def finish() -> Cosines:
            cosines = Cosines(places, values, compute, rest if len(cached) > 1 else None)
            cosines.find_near()
            return cosines

        if len(cached) > 1:
            return _run_in_two_threads(_parts(self._rows), multiply, finish)
        multiply(slice(self._rows))
        result = finish()
        return lambda: result

    def _compute(self, model: Model, vector: Vector, slots: Iterable[int]) -> dict[int, float]:
        """Return the cosines computed from the stored vectors of these slots.

        They are the same with and without numpy.
        """
        import simsimd

        by_slot = read(self._connection, model.width, slots, self._blocks)
        if not by_slot:
            return {}
        stored, shape = b"".join(by_slot.values()), (len(by_slot), model.dimensions)
        if self._scales is None:
            numbers = array("f", struct.unpack(f"={len(stored) // NUMBER_BYTES}e", stored)).tobytes()
        else:
            import numpy as np

            numbers = np.frombuffer(stored, np.float16).astype(np.float32).tobytes()
        row: Any = memoryview(array("f", vector.tolist()).tobytes()).cast("f", (1, model.dimensions))
        rows: Any = memoryview(numbers).cast("f", shape)
        products: Any = simsimd.cdist(row, rows, "dot", out_dtype="f64")
        cosines = array("d", memoryview(products).tobytes())
        return dict(zip(by_slot, cosines, strict=True))

    def _scan_planes(self, model: Model, vector: Vector, segments: Sequence[int]) -> Cosines:
        """Return the cosines, using vectors that are stored in planes.

        This reads the first half of each vector, and then the second half of only the nearest ones.
        """
        import simsimd

        def load_numpy() -> None:
            with suppress(Exception):  # the import below raises it again
                import_module("numpy")

        # Reading waits for the disk, so another thread loads numpy meanwhile.
        threading.Thread(target=load_numpy, name="kbsync-numpy").start()
        layout = Planes(model.dimensions)
        first, second = layout.first, layout.second
        scale = max(1e-9, *map(abs, vector)) / 127
        numbers = array("b", (round(number / scale) for number in vector))
        row: Any = memoryview(numbers[:first]).cast("B").cast("b", (1, first))
        batch, products = bytearray(_BATCH * SLOTS * first), bytearray()
        pages = RowPages(self._connection, "block", layout.size)
        open_blob = partial(self._connection.blob_open, "main", "block", "vectors", segments[0], False)
        with pages.reading_ahead(SLOTS * first), open_blob() as blob:
            for start in range(0, len(segments), _BATCH):
                several = segments[start : start + _BATCH]
                for at, segment in enumerate(several):
                    blob.reopen(segment)
                    blob.read_into(batch, at * SLOTS * first, SLOTS * first)
                count = len(several) * SLOTS
                rows: Any = memoryview(batch)[: count * first].cast("b", (count, first))
                found: Any = simsimd.cdist(row, rows, "dot", out_dtype="f32")
                products += memoryview(found).cast("B")
        factor_rows: list[Any] = self._connection.execute(_FACTORS, (model.id,)).fetchall()
        import numpy as np

        factors = np.frombuffer(b"".join(chain.from_iterable(factor_rows)), np.float32) * np.float32(scale)
        values = np.frombuffer(products, np.float32) * factors
        second_row = np.array(numbers[first:], np.int8)[None]

        def rest(positions: NDArray[np.intp] | slice) -> NDArray[np.float32]:
            if isinstance(positions, slice):
                order, size = np.arange(len(segments)), SLOTS * second
                places = [(block, 0) for block in range(len(segments))]
            else:
                order, size = np.argsort(positions), second
                places = [divmod(position, SLOTS) for position in positions[order].tolist()]
            pieces = [(segments[block], SLOTS * first + place * second, size) for block, place in places]
            pages.read_ahead(pieces)
            products = np.empty((len(pieces), size // second), np.float32)
            with open_blob() as blob:
                last = segments[0]
                for start in range(0, len(pieces), _BATCH * SLOTS * second // size):
                    several = pieces[start : start + _BATCH * SLOTS * second // size]
                    rows = bytearray(len(several) * size)
                    for at, (segment, offset, _) in enumerate(several):
                        if segment != last:
                            blob.reopen(segment)
                            last = segment
                        blob.seek(offset)
                        blob.read_into(rows, at * size, size)
                    stored = np.frombuffer(rows, np.int8).reshape(-1, second)
                    positions_of_rows = order[start : start + len(several)]
                    products[positions_of_rows] = _products(second_row, stored).reshape(len(several), -1)
            return products.ravel() * factors[positions]

        def compute(slots: Iterable[int]) -> dict[int, float]:
            in_order = sorted(slots)
            pages.read_ahead(
                [(slot // SLOTS, *piece) for slot in in_order for piece in layout.pieces(slot % SLOTS)]
            )
            return self._compute(model, vector, in_order)

        block_numbers = {segment: number for number, segment in enumerate(segments)}
        cosines = Cosines(block_numbers, values, compute, rest, _NEAR_STORED)
        cosines.find_near()
        return cosines

    def _scan_stored(
        self, model: Model, vector: Vector, segments: Iterable[int], planar: Iterable[int]
    ) -> Cosines:
        """Return the cosines, computed from the stored vectors.

        This doesn't import numpy, unless some vectors are `planar`.
        """
        import simsimd

        rounded = struct.pack(f"={model.dimensions}e", *vector.tolist())
        row = memoryview(rounded).cast("H", (1, model.dimensions))
        places = {segment: block for block, segment in enumerate(chain(segments, planar))}
        buffer, values = bytearray(SLOTS * model.width), array("f")
        rows = memoryview(buffer).cast("H", (SLOTS, model.dimensions))
        is_large = len(places) * SLOTS > _FEW_SLOTS
        with reading_ahead(self._connection) if is_large else nullcontext():
            for _ in self._read_blocks(buffer, segments):
                products: Any = simsimd.cdist(row, rows, "dot", dtype="f16", out_dtype="f32")
                values.frombytes(memoryview(products).tobytes())
            buffer = bytearray(SLOTS * model.dimensions)
            for segment in self._read_blocks(buffer, planar):
                factors = self._connection.execute(_FACTORS_OF, (segment,)).get
                values.frombytes(planes.multiply(factors, buffer, vector).tobytes())
        return Cosines(places, values, partial(self._compute, model, vector))

    def _refresh(self, model: Model, unconverted: Mapping[int, int], planar: Mapping[int, int]) -> None:
        """Drop the cached vectors of removed segments, and read changed ones again."""
        import numpy as np

        versions = {**planar, **unconverted}
        first = model.dimensions // 2 if len(versions) * SLOTS >= _MANY_ROWS else model.dimensions
        widths = [width for width in (first, model.dimensions - first) if width]
        if self._scales is None or [half.shape[1] for half in self._cached] != widths:
            self._drop()
            cached = [np.zeros((0, width), np.int8) for width in widths]
            scales = np.zeros(0, np.float32)
        else:
            cached, scales = self._cached, self._scales
        for segment in self._places.keys() - versions.keys():
            block_number = self._places.pop(segment)
            for half in cached:
                half[block_number * SLOTS : (block_number + 1) * SLOTS] = 0
            self._free.append(block_number)
            del self._versions[segment]
        blocks = len(scales) // SLOTS
        if len(versions) > blocks:  # an eighth more than needed, so that it rarely grows
            capacity = len(versions) + len(versions) // 8 + 1
            cached = [_grown(half, capacity * SLOTS) for half in cached]
            scales = _grown(scales, capacity * SLOTS)
            self._free[:0] = range(capacity - 1, blocks - 1, -1)
        self._cached, self._scales = cached, scales
        stale = [segment for segment, version in versions.items() if self._versions.get(segment) != version]
        buffer = bytearray(SLOTS * model.width)
        block = np.frombuffer(buffer, np.float16).reshape(SLOTS, model.dimensions)
        for segment in self._read_blocks(buffer, (segment for segment in stale if segment in unconverted)):
            scales_of_block, numbers = quantized(block.astype(np.float32))
            self._cache(segment, scales_of_block, numbers[:, :first], numbers[:, first:])
            self._versions[segment] = versions[segment]
        buffer = bytearray(SLOTS * model.dimensions)
        for segment in self._read_blocks(buffer, (segment for segment in stale if segment in planar)):
            factors = np.frombuffer(self._connection.execute(_FACTORS_OF, (segment,)).get, np.float32)
            self._cache(segment, factors, *planes.int8_halves(buffer, model.dimensions))
            self._versions[segment] = versions[segment]
        self._rows = SLOTS * (max(self._places.values(), default=-1) + 1)

    def _cache(self, segment: int, scales: NDArray[np.float32], *halves: NDArray[np.int8]) -> None:
        """Keep the vectors of a segment in memory."""
        import numpy as np

        assert self._scales is not None
        if segment not in self._places:
            self._places[segment] = self._free.pop()
        start = self._places[segment] * SLOTS
        self._scales[start : start + SLOTS] = scales
        if len(self._cached) == 1:
            halves = (np.hstack(halves),)
        for cached, numbers in zip(self._cached, halves, strict=True):
            cached[start : start + SLOTS] = numbers

    def _read_blocks(self, buffer: bytearray, segments: Iterable[int]) -> Iterator[int]:
        """Read the beginning of each segment's vectors into the buffer, and yield the number of the
        segment.
        """
        blob: apsw.Blob | None = None
        try:
            for segment in segments:
                if blob is None:
                    blob = self._connection.blob_open("main", self._blocks, "vectors", segment, False)
                else:
                    blob.reopen(segment)
                blob.read_into(buffer)
                yield segment
        finally:
            if blob is not None:
                blob.close()


_MANY_ROWS = 200_000
"""Minimum number of rows for which a search starts with only the first half of each vector."""

_MIN_PART_ROWS = 32_768
"""Minimum number of rows for one thread to multiply at once."""

_NEAR, _NEAR_STORED, _MAX_NEAREST = 16_384, 4_096, 600
"""Approximate number of rows whose second half a search multiplies, too (for vectors in memory and on disk),
and the maximum number of nearest rows among these.
"""

_BATCH = 16
"""Number of segments to multiply at once."""

_PLANAR = "SELECT id, version FROM planar_segment WHERE model = ? ORDER BY id"
_FACTORS = "SELECT factors FROM planar_segment WHERE model = ? ORDER BY id"
_FACTORS_OF = "SELECT factors FROM planar_segment WHERE id = ?"


def _grown(rows: NDArray[Any], capacity: int) -> NDArray[Any]:
    """Return a copy of the rows, padded with rows of zeros."""
    import numpy as np

    grown = np.zeros((capacity, *rows.shape[1:]), rows.dtype)
    grown[: len(rows)] = rows
    return grown


def _products(row: NDArray[np.int8], rows: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return the dot product of one row with each of the others. All values are int8."""
    import numpy as np
    import simsimd

    # Not with `out`: then simsimd 6.5 returns a None that it doesn't own, and the process eventually crashes.
    products = simsimd.cdist(np.ascontiguousarray(row), rows, "dot", out_dtype="f32")
    array: NDArray[np.float32] = np.asarray(products)[0]
    return array


def _parts(count: int) -> Iterator[slice]:
    """Divide `count` rows into parts for two threads.

    Each part has half of the remaining rows, so that there are few parts, and the last ones are short.
    """
    start = 0
    while start < count:
        stop = max(start + (count - start) // 2, min(count, start + _MIN_PART_ROWS))
        yield slice(start, stop)
        start = stop


def _run_in_two_threads(
    parts: Iterable[slice], work: Callable[[slice], None], finish: Callable[[], Cosines]
) -> Callable[[], Cosines]:
    """Process the parts of a task in another thread and, once a caller waits for the result, also in the
    caller's thread.

    Return the function that waits for the result of `finish`, which runs after the last part.
    """
    from concurrent.futures import Future

    future, waiting, guard = Future[Cosines](), deque(parts), threading.Lock()
    unfinished = len(waiting)

    def run() -> None:
        nonlocal unfinished
        try:
            while waiting:
                with suppress(IndexError):  # the other thread took the last one
                    work(waiting.popleft())
                    with guard:
                        unfinished -= 1
                        is_last = not unfinished
                    if is_last:
                        future.set_result(finish())
        except BaseException as error:  # raised where the result is awaited
            waiting.clear()
            if not future.done():
                future.set_exception(error)

    def wait() -> Cosines:
        run()
        return future.result()

    threading.Thread(target=run, name="kbsync-cosines").start()
    return wait
