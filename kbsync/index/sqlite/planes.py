"""The layout of vectors in a large index: a search reads part of each vector, but only a few vectors as a
whole.

In this layout, a row of `block` has the same vectors in planes, each with a part of all vectors:

- the first half of each vector's numbers, as int8
- the second half of them, as int8
- the quantization errors of the int8 numbers, as int8

A number is (int8 number + error / 256) × the vector's factor, which is in `planar_segment`; the factor of a
free slot is 0. Like float16, this takes two bytes per number. It differs from float16 numbers by at most
1/32,000 of the vector's largest number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import apsw

from kbsync.dataclass import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kbsync.index.embed import Vector

SLOTS = 256
"""Number of vectors in each row."""

FACTOR_BYTES = 4
_STEPS = 256  # of the quantization error


@dataclass(frozen=True, slots=True)
class Planes:
    """The offsets of the planes in a row, for vectors with this number of `dimensions`."""

    dimensions: int

    @property
    def first(self) -> int:
        """The number of dimensions in the first part of a vector."""
        return self.dimensions // 2

    @property
    def second(self) -> int:
        """The number of dimensions in the second part of a vector."""
        return self.dimensions - self.first

    @property
    def size(self) -> int:
        """The size of a row in bytes, which is the same as with float16 numbers."""
        return 2 * SLOTS * self.dimensions

    def pieces(self, place: int) -> tuple[tuple[int, int], ...]:
        """Return the offset and size of each piece of the vector at `place`."""
        return (
            (place * self.first, self.first),
            (SLOTS * self.first + place * self.second, self.second),
            ((SLOTS + place) * self.dimensions, self.dimensions),
        )


def quantized(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Quantize each row.

    For each row, return a factor, and integers that approximate the row when multiplied by the factor.
    """
    import numpy as np

    factors = np.maximum(np.abs(vectors).max(axis=1), 1e-9) / 127
    return factors, np.rint(vectors / factors[:, None]).astype(np.int8)


def encode_block(block: bytes, dimensions: int) -> tuple[bytes, bytes]:
    """Return the factors and the planes of a row of float16 vectors."""
    factors, first, second, lacking = _encode(block, dimensions)
    return factors.tobytes(), first.tobytes() + second.tobytes() + lacking.tobytes()


def write(factors: apsw.Blob, row: apsw.Blob, vectors: Mapping[int, bytes], dimensions: int) -> None:
    """Write float16 vectors to their places."""
    new_factors, first, second, lacking = _encode(b"".join(vectors.values()), dimensions)
    for number, place in enumerate(vectors):
        factors.seek(place * FACTOR_BYTES)
        factors.write(new_factors[number].tobytes())
        numbers = first[number], second[number], lacking[number]
        for (offset, _), part in zip(Planes(dimensions).pieces(place), numbers, strict=True):
            row.seek(offset)
            row.write(part.tobytes())


def read(
    factors: apsw.Blob, row: apsw.Blob, places: Iterable[int], dimensions: int
) -> Iterator[tuple[int, bytes]]:
    """Yield the vectors at these places, as float16."""
    import numpy as np

    for place in places:
        parts = list[bytes]()
        for offset, size in Planes(dimensions).pieces(place):
            row.seek(offset)
            parts.append(row.read(size))
        factors.seek(place * FACTOR_BYTES)
        factor = np.frombuffer(factors.read(FACTOR_BYTES), np.float32)
        numbers = np.frombuffer(parts[0] + parts[1], np.int8).astype(np.float32)
        numbers += np.frombuffer(parts[2], np.int8) / np.float32(_STEPS)
        yield place, (numbers * factor).astype(np.float16).tobytes()


def int8_halves(row: bytearray, dimensions: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Return both halves of the int8 numbers, from a buffer that contains the beginning of a row."""
    import numpy as np

    planes = Planes(dimensions)
    first = np.frombuffer(row, np.int8, SLOTS * planes.first)
    second = np.frombuffer(row, np.int8, SLOTS * planes.second, SLOTS * planes.first)
    return first.reshape(SLOTS, -1), second.reshape(SLOTS, -1)


def multiply(factors: bytes, row: bytearray, vector: Vector) -> NDArray[np.float32]:
    """Return the dot products of `vector` with the int8 numbers of each vector in `row`, which may be only
    the beginning of a row.
    """
    import numpy as np

    numbers = np.hstack(int8_halves(row, len(vector))).astype(np.float32)
    products: NDArray[np.float32] = numbers @ np.asarray(vector, np.float32)
    return products * np.frombuffer(factors, np.float32)


def _encode(
    vectors: bytes, dimensions: int
) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]:
    """Quantize float16 vectors. Return their factors, both halves of their int8 numbers, and the
    quantization errors.
    """
    import numpy as np

    rows = np.frombuffer(vectors, np.float16).reshape(-1, dimensions).astype(np.float32)
    factors, numbers = quantized(rows)
    lacking = np.rint((rows / factors[:, None] - numbers) * _STEPS).clip(-128, 127).astype(np.int8)
    factors[~rows.any(axis=1)] = 0
    first = Planes(dimensions).first
    return factors, numbers[:, :first], numbers[:, first:], lacking
