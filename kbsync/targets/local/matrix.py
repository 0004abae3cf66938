"""The vectors of one model in memory, for the cosine of a question with all of them.

The first scan reads them from the file block by block and keeps none, so that a command that searches once
stays small; from the second on they are kept as float32 (nine times as fast) and only blocks that changed
are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import apsw

from kbsync.targets.local.slots import SLOTS, Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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

    def best(self, start: int, stop: int) -> list[int]:
        """The slots at ranks `start` to `stop`, nearest first, leaving out those that are not near at all."""
        import numpy as np

        values, stop = self._values, min(stop, len(self._values))
        top = np.argpartition(values, -stop)[-stop:] if stop else values[:0]
        order = sorted(map(int, top), key=lambda at: (-values[at], at))[start:stop]
        return [self._segments[at // SLOTS] * SLOTS + at % SLOTS for at in order if values[at] > 0]


class Matrix:
    """Scans the vectors of one model through `connection`."""

    def __init__(self, connection: apsw.Connection) -> None:
        """Reads nothing yet."""
        self._connection = connection
        self._scans = 0
        self._kept: _Kept | None = None

    def cosines(self, model: Model, vector: NDArray[np.float32]) -> Cosines:
        """The cosine of `vector` (length 1) with every slot, as of the transaction that is open."""
        versions = dict(
            self._connection.execute(
                "SELECT id, version FROM segment WHERE model = ? ORDER BY id", (model.id,)
            )
        )
        self._scans += 1
        if self._scans < 2 or len(versions) * SLOTS * model.dimensions * 4 > _MOST_BYTES:
            self._kept = None
            return self._streamed(model, versions, vector)
        self._kept = self._kept or _Kept(model.dimensions)
        stale = self._kept.stale(versions)
        for segment, block in zip(stale, self._read(model, stale), strict=True):
            self._kept.keep(segment, versions[segment], block)
        return self._kept.cosines(vector)

    def _streamed(self, model: Model, segments: Iterable[int], vector: NDArray[np.float32]) -> Cosines:
        """The cosines with vectors that are read and forgotten."""
        import numpy as np

        places = {segment: place for place, segment in enumerate(segments)}
        values = np.zeros(len(places) * SLOTS, np.float32)
        for place, block in enumerate(self._read(model, places)):
            values[place * SLOTS : (place + 1) * SLOTS] = _products(block, vector)
        return Cosines(places, values)

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


class _Kept:
    """Vectors as one array, in which each segment has a place; a place that was let go is zeros."""

    def __init__(self, dimensions: int) -> None:
        """Empty."""
        import numpy as np

        self._vectors = np.zeros((0, dimensions), np.float32)
        self._places: dict[int, int] = {}
        self._versions: dict[int, int] = {}
        self._free: list[int] = []

    def stale(self, versions: Mapping[int, int]) -> list[int]:
        """Forget the segments that are gone; those that must be read again."""
        for segment in self._places.keys() - versions.keys():
            place = self._places.pop(segment)
            self._vectors[place * SLOTS : (place + 1) * SLOTS] = 0
            self._free.append(place)
            del self._versions[segment]
        self._reserve(len(versions))
        return [segment for segment, version in versions.items() if self._versions.get(segment) != version]

    def keep(self, segment: int, version: int, block: NDArray[np.float32]) -> None:
        """Take over the vectors of a segment."""
        if segment not in self._places:
            self._places[segment] = self._free.pop()
        place = self._places[segment]
        self._vectors[place * SLOTS : (place + 1) * SLOTS] = block
        self._versions[segment] = version

    def cosines(self, vector: NDArray[np.float32]) -> Cosines:
        """The cosine with each vector."""
        return Cosines(dict(self._places), _products(self._vectors, vector))

    def _reserve(self, segments: int) -> None:
        """Have places for so many segments; an eighth more than needed, so that growing is rare."""
        import numpy as np

        places = len(self._vectors) // SLOTS
        if segments <= places:
            return
        more = segments + segments // 8 + 1
        grown = np.zeros((more * SLOTS, self._vectors.shape[1]), np.float32)
        grown[: len(self._vectors)] = self._vectors
        self._vectors = grown
        self._free.extend(range(places, more))
