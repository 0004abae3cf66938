"""Lists the promises by number (docs/promises.md describes them), and reports the ones that a target can't
keep.
"""

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


def describe_unkept(unkept: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    """Yield a label, such as `promise 2`, and a sentence for each promise that a target can't keep.

    The sentence contains the promise's title, and says what happens instead.
    """
    for number, instead in sorted(unkept.items()):
        yield f"promise {number}", f"not kept here ({PROMISES[number].lower()}): {instead}"
