"""Invariants of the rows at one path, which tests check after every transition."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kbsync.core.model import Purpose, Upload, UploadState

_PAGE = Path(__file__).parents[2] / "docs" / "internals" / "architecture.md"
_STEPS = re.findall(r"^  (\w+) --> (\w+): ", _PAGE.read_text(), re.MULTILINE)
TRANSITIONS = {
    state: {UploadState[after] for before, after in _STEPS if before == state.name} for state in UploadState
}
"""The transitions in the docs' diagram."""

RESTING = (
    UploadState.SERVING,
    UploadState.HELD,
    UploadState.FAILED,
    UploadState.SENDING,
    UploadState.ADOPTING,
)
"""States in which time alone changes nothing: they wait for an outcome, a person or the file."""


def breaches(uploads: Sequence[Upload]) -> list[str]:
    """Return sentences about violations; empty if there are none. `uploads`: all rows of one path."""
    serving = [u.id for u in uploads if u.state.serves]
    matching = [f"{len(serving)} uploads serve one path: {serving}"] if len(serving) > 1 else []
    flying = Counter(
        (u.digest, u.recipe) for u in uploads if u.state.in_flight and u.purpose is Purpose.SERVE
    )
    matching += [f"{n} uploads of one version in flight: {key}" for key, n in flying.items() if n > 1]
    for u in uploads:
        if u.state in (UploadState.RETIRING, UploadState.TOMBSTONE) and u.remote_id is None:
            matching.append(f"upload {u.id} is retiring without a remote id")
        if not u.state.is_final and u.state not in RESTING and u.due_at is None:
            matching.append(f"upload {u.id} is {u.state.name} and nothing will look at it again")
    return matching
