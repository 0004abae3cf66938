"""Keys that earlier versions took: whoever still has one is told what to write instead.

A key that goes gets a row here, so that an old config is refused with file, line and cure.
"""

from __future__ import annotations

from collections.abc import Mapping

from kbsync.config.problems import Loc

_FETCH_AGAIN = (
    "pages are not fetched by time any more; remove the key, and run kbsync retry PATH to fetch one again"
)

_SENT_AGAIN = "a document whose settings changed is sent again and never cut where it serves; remove the key"

RETIRED: Mapping[str, str] = {
    "mirrors[].target.reslice": _SENT_AGAIN,
    "mirrors[].documents[].zhipu.refresh": _FETCH_AGAIN,
    "mirrors[].documents[].gptbots.refresh": _FETCH_AGAIN,
}
"""By the place of a key, `[]` for any item of a list: what to do, as the message says it."""


def retired(loc: Loc) -> str | None:
    """The message for the key at `loc`; None for a key that no earlier version had."""
    place = "".join("[]" if isinstance(step, int) else f".{step}" for step in loc).removeprefix(".")
    advice = RETIRED.get(place)
    return None if advice is None else f"is gone: {advice}"
