"""The promises by their numbers (docs/promises.md has them in full), and how one that is not kept is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

PROMISES: Mapping[int, str] = {
    1: "Unreadable is never deleted",
    2: "Never absent while replaced",
    3: "Exactly once",
    4: "The daemon never wakes itself",
    5: "Mass deletion asks",
    6: "Others' documents are untouched",
    7: "Same bytes, no work",
    8: "A half-written file is never sent",
    9: "Failures are seen and bounded",
    10: "HTTP 200 is not success",
    11: "Gone is gone",
}


def told(unkept: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    """Of each promise that is not kept: `promise 2`, and what it is and what holds instead."""
    for number, instead in sorted(unkept.items()):
        yield f"promise {number}", f"not kept here ({PROMISES[number].lower()}): {instead}"
