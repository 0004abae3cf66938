"""Why a file is left out, as a clause that may follow "because", and what undoes it."""

from __future__ import annotations

import re

from kbsync.core.model import Choice
from kbsync.engine.views.evidence import Selection

_BEGINNINGS = (
    (r"symlink|socket", "it is a"),
    (r"empty|excluded by|explicitly included", "it is"),
    (r"[\d,]+ bytes", "it has"),
    (r"holds|matches|cannot be", "it"),
)
"""How reasons begin that are told in a row with the file's name, and what makes them a clause."""


def clause(reason: str) -> str:
    """A reason with its file as the subject, where it names none."""
    for beginning, subject in _BEGINNINGS:
        if re.match(rf"(?:{beginning})\b", reason):
            return f"{subject} {reason}"
    return reason


def why(chosen: Selection) -> str:
    """Why it is left out, with the rule."""
    reason = chosen.verdict.reason
    told = f"a directory above it is not entered: {reason}" if chosen.closed else clause(reason)
    return f"{told}{decided_by(chosen)}"


def decided_by(chosen: Selection) -> str:
    """Where it was decided, in brackets, where a person can change it."""
    rule = chosen.verdict.rule
    return f" ({rule})" if rule and chosen.verdict.choice is not Choice.SKIPPED else ""


def undo(chosen: Selection) -> str:
    """What to do to have it found."""
    rule = chosen.verdict.rule
    match chosen.verdict.choice:
        case Choice.EXCLUDED if rule == "default":
            return "take it back with a negated pattern in `exclude`, or name it in `include`"
        case Choice.EXCLUDED if rule == "include":
            return "add a pattern for it to `include`"
        case Choice.EXCLUDED:
            return f"change {rule}" + (
                "" if chosen.closed else ", or take it back with a negated pattern below it"
            )
        case Choice.REFUSED if rule == "max_bytes":
            return "make it smaller, or raise the limit if it is yours"
        case Choice.REFUSED:
            return "convert it to a format that the target takes, or leave it out"
        case _:
            return "that needs no action unless you want it found"
