"""What files are taken for, for the log at level debug."""

from __future__ import annotations

from kbsync.core.debugging import is_debugging, tell
from kbsync.core.model import NO_STAMP, Choice, Stamp
from kbsync.engine.judge import Judgement, Sight, Wait
from kbsync.state.entries import Entry

_PARTS = {"size": "size", "mtime_ns": "mtime", "ctime_ns": "ctime", "ino": "inode"}


def tell_judged(mirror: str, sight: Sight, known: Entry | None, judgement: Judgement) -> None:
    """A file was looked at: what of its stamp is not as it was, and what it is taken for."""
    if is_debugging():
        outcome = _outcome(known, judgement)
        differs = _differs(sight.stamp, known)
        tell("file.judged", mirror=mirror, path=sight.path, outcome=outcome, differs=differs)


def _differs(now: Stamp, known: Entry | None) -> list[str]:
    """What of the stamp is not as it is known; nothing where none is."""
    if known is None or known.stamp == NO_STAMP:
        return []
    return [name for part, name in _PARTS.items() if getattr(now, part) != getattr(known.stamp, part)]


def _outcome(known: Entry | None, judgement: Judgement) -> str:
    if judgement is None:
        return "gone"
    if isinstance(judgement, Wait):
        return "being written"
    if judgement.problem:
        return f"unreadable: {judgement.problem}"
    if judgement.verdict.choice is not Choice.SELECTED:
        return f"not mirrored: {judgement.verdict.reason}"
    if judgement.renamed_from is not None:
        return f"renamed, from {judgement.renamed_from}"
    if known is None or known.digest is None:
        return "new"
    return "same content" if judgement.digest == known.digest else "other content"
