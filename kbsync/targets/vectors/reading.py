"""What the services answer, read into vectors and orders. Nothing but `NonsenseError` is raised."""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_DIMENSIONS = 16_384


class NonsenseError(Exception):
    """An answer that cannot be what was asked for; `str()` says why."""


def vectors_of(body: object, count: int) -> list[NDArray[np.float32] | None]:
    """`count` vectors at length 1, in the order of the question; None for one that is none or no direction.

    All have one length. Raises `NonsenseError` where they cannot be told apart or differ in length.
    """
    rows = _in_order(_list_of(body), count)
    vectors = [_vector(row) for row in rows]
    lengths = {len(vector) for vector in vectors if vector is not None}
    if len(lengths) > 1:
        raise NonsenseError(f"vectors of different lengths ({', '.join(map(str, sorted(lengths)))})")
    units = iter(_units([vector for vector in vectors if vector is not None]))
    return [None if vector is None else next(units) for vector in vectors]


def order_of(body: object, count: int) -> list[tuple[int, float]]:
    """(index, score) of all `count` texts, best first; those not answered keep their order at the end.

    Indexes that were not asked for are dropped, of several scores the best counts. Raises `NonsenseError`.
    """
    scores: dict[int, float] = {}
    for place, item in enumerate(_list_of(body)):
        index, score = _ranked(item, place)
        if 0 <= index < count and math.isfinite(score):
            scores[index] = max(score, scores.get(index, -math.inf))
    if not scores and count:
        raise NonsenseError("no text of the question is in it")
    best = sorted(scores.items(), key=lambda each: (-each[1], each[0]))
    last = best[-1][1] if best else 0.0
    return best + [(index, last) for index in range(count) if index not in scores]


def _list_of(body: object) -> Sequence[object]:
    """The list an answer is about: itself, `data`, `results` or `embeddings`."""
    if isinstance(body, Mapping):
        lists = [body[key] for key in ("results", "data", "embeddings") if isinstance(body.get(key), list)]
        body = lists[0] if lists else None
    if not isinstance(body, list):
        raise NonsenseError("there is no list in it")
    return body


def _in_order(rows: Sequence[object], count: int) -> Sequence[object]:
    """By `index` where every row has another one; else as they came."""
    if len(rows) != count:
        raise NonsenseError(f"{len(rows)} vectors for {count} texts")
    by_index = {row["index"]: row for row in rows if isinstance(row, Mapping) and _is_index(row.get("index"))}
    if sorted(by_index) == list(range(count)):
        return [by_index[index] for index in range(count)]
    return rows


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _vector(row: object) -> NDArray[np.float32] | None:
    """None where the row says that there is none: null, or an empty list."""
    import numpy as np

    value = row.get("embedding", ()) if isinstance(row, Mapping) else row
    if value is None or value == []:
        return None
    if isinstance(value, str):
        return _from_base64(value)
    if not isinstance(value, list) or not 0 < len(value) <= MOST_DIMENSIONS:
        raise NonsenseError("a row is no vector")
    if any(isinstance(number, list) for number in value):
        raise NonsenseError("a row has several vectors; models of that kind are not supported")
    try:
        return np.array([math.nan if number is None else number for number in value], np.float32)
    except (ValueError, TypeError, OverflowError):
        raise NonsenseError("a row has something that is no number") from None


def _from_base64(text: str) -> NDArray[np.float32]:
    """Little-endian float32."""
    import numpy as np

    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # also binascii.Error, and what is not ASCII
        raise NonsenseError("a row is a text that is no base64") from None
    if not content or len(content) % 4 or len(content) > 4 * MOST_DIMENSIONS:
        raise NonsenseError(f"a row has {len(content)} bytes, which are no vector")
    return np.frombuffer(content, "<f4")


def _units(vectors: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32] | None]:
    """At length 1; None for what has no direction: all zeros, or something that is no number."""
    import numpy as np

    if not vectors:
        return []
    wide = np.concatenate(vectors, dtype=np.float64).reshape(len(vectors), -1)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    is_sound = np.isfinite(lengths) & (lengths > 0)
    units = (wide / np.where(is_sound, lengths, 1.0)[:, np.newaxis]).astype(np.float32)
    return [unit if sound else None for unit, sound in zip(units, is_sound.tolist(), strict=True)]


def _ranked(item: object, place: int) -> tuple[int, float]:
    """Index and score of one row; a bare row without an index stands at its place."""
    if not isinstance(item, Mapping):
        raise NonsenseError("a row is no object")
    return _index(item.get("index", place)), _score(item)


def _index(value: Any) -> int:
    """An index may come as text; -1 for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value) if len(value) < 10 else -1
    return value if _is_index(value) else -1


def _score(item: Mapping[str, Any]) -> float:
    score = item.get("relevance_score", item.get("score"))
    if isinstance(score, bool) or not isinstance(score, int | float):
        return math.nan
    try:
        return float(score)
    except OverflowError:
        return math.nan
