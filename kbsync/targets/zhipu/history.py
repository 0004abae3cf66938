"""A conversation as the vendor takes it: who said what, oldest first. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kbsync.contract.answering import Turn

MOST_MESSAGES = 15
"""An odd number of them; the manual speaks of 15 turns, and one message each is the narrower reading."""


def messages(question: str, turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The question and as many of the latest turns before it as are taken."""
    said = [
        {"role": role, "content": text}
        for turn in turns[-(MOST_MESSAGES // 2) :]
        for role, text in (("user", turn.question), ("assistant", turn.answer))
    ]
    return [*said, {"role": "user", "content": question}]
