"""What is said of a key that is not known: which ones are, and where it may have been meant."""

from __future__ import annotations

from collections.abc import Iterable

from kbsync.config.model import TARGETS
from kbsync.config.problems import nearest
from kbsync.config.shape import blocks, known_keys


def unknown(key: str, known: Iterable[str]) -> str:
    """The sentence for a key that is not known, with those that are and where it may have been meant."""
    words = tuple(known)
    return f"unknown key; allowed: {', '.join(words) or 'none in this version'}{_hint(key, words)}"


def _hint(key: str, known: Iterable[str]) -> str:
    homes = list(dict.fromkeys((home, block) for home, block in blocks() if key in known_keys(block)))
    if len(homes) == 1:
        [(home, block)] = homes
        kind = next((f"target type {name}" for name, one in TARGETS.items() if one is block), "")
        return f"; {key} belongs into {kind or home or 'the top of the file'}"
    close = nearest(key, known)
    return f"; did you mean {close}?" if close else ""
