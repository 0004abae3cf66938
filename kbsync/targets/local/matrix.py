"""The vectors of one model in memory, for the cosine of a question with all of them.

The first scan reads them from the file block by block and keeps none, so that a command that searches once
stays small; from the second on they are kept as float32 (nine times as fast) and only blocks that changed
are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import apsw

from kbsync.targets.local.slots import SLOTS, Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_BYTES = 512 * 2**20  # beyond it every scan reads the file: 8 times as slow, and bounded


class Cosines:
    """The cosine of a question with every slot."""

    def __init__(self, segments: list[int], values: NDArray[np.float32]) -> None:
        """`values[i]` belongs to slot `segments[i // SLOTS] * SLOTS + i % SLOTS`."""
        self._places = {segment: place for place, segment in enumerate(segments)}
        self._segments = segments
        self._values = values

    def of(self, slot: int) -> float:
        """The cosine with one slot; 0 where there is none."""
        place = self._places.get(slot // SLOTS)
        return 0.0 if place is None else float(self._values[place * SLOTS + slot % SLOTS])

    def best(self, start: int, stop: int) -> list[int]:
        """The slots at ranks `start` to `stop`, nearest first, leaving out those that are not near at all."""
        import numpy as np

        values, stop = self._values, min(stop, len(self._values))
        top = (
            np.argpartition(values, len(values) - stop)[-stop:] if stop < len(values) else range(len(values))
        )
        order = sorted(top, key=lambda index: (-values[index], index))[start:stop]
        return [self._segments[at // SLOTS] * SLOTS + int(at) % SLOTS for at in order if values[at] > 0]


class Matrix:
    """Scans the vectors of the model called `name` through `connection`."""

    def __init__(self, connection: apsw.Connection, name: str) -> None:
        """Reads nothing yet."""
        self._connection = connection
        self._name = name
        self._scans = 0
        self._kept: dict[int, tuple[int, NDArray[np.float32]]] = {}  # segment: (version, vectors)

    def cosines(self, model: Model, vector: NDArray[np.float32]) -> Cosines:
        """The cosine of `vector` (length 1) with every slot, as of the transaction that is open."""
        import numpy as np

        versions = dict(
            self._connection.execute(
                "SELECT id, version FROM segment WHERE model = ? ORDER BY id", (model.id,)
            )
        )
        self._scans += 1
        blocks = self._blocks(model, versions)
        values = np.zeros(len(versions) * SLOTS, np.float32)
        for place, block in enumerate(blocks):
            np.dot(block, vector, out=values[place * SLOTS : (place + 1) * SLOTS])
        return Cosines(list(versions), values)

    def _blocks(self, model: Model, versions: dict[int, int]) -> Iterable[NDArray[np.float32]]:
        """The vectors of each segment in turn, shape (SLOTS, dimensions)."""
        if self._scans < 2 or len(versions) * SLOTS * model.dimensions * 4 > _MOST_BYTES:
            return self._read(model, versions)
        stale = [each for each, version in versions.items() if self._kept.get(each, (-1,))[0] != version]
        fresh = zip(stale, self._read(model, stale), strict=True)
        kept = {segment: self._kept[segment] for segment in versions if segment in self._kept}
        self._kept = kept | {segment: (versions[segment], block) for segment, block in fresh}
        return [self._kept[segment][1] for segment in versions]

    def _read(self, model: Model, segments: Iterable[int]) -> Iterator[NDArray[np.float32]]:
        """The vectors of each segment from the file."""
        import numpy as np

        for segment in segments:
            raw = self._connection.execute("SELECT vectors FROM block WHERE id = ?", (segment,)).get
            yield np.frombuffer(raw, np.float16).reshape(SLOTS, model.dimensions).astype(np.float32)
