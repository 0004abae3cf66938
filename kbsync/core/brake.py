"""Whether deletions, and documents made anew because settings changed, ask a person first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeletionLimits:
    """More than `fraction` of the documents and more than `count` of them within `window` seconds ask."""

    fraction: float = 0.2
    count: int = 5
    window: float = 3600.0


def must_hold(
    batch: int, executed: int, serving: int, limits: DeletionLimits, before: int | None = None
) -> bool:
    """True when `batch` deletions wait for a person.

    `executed`: deletions let through without asking within the window. `serving`: documents that serve
    now, those of the batch included. `before`: how many did when things began to go, so that what was
    uploaded meanwhile does not hide that all of them go.
    """
    if batch == 0:
        return False
    if batch >= min(serving, before or serving):
        return True
    gone = batch + executed
    return gone > limits.count and gone > limits.fraction * (serving + executed)


RENEWAL_FRACTION = 0.2
"""Of the documents: settings that touch more of them ask before they cost money."""


def must_ask(touched: int, serving: int) -> bool:
    """True when so many of the `serving` documents are not to be made anew without a person's word."""
    return touched > RENEWAL_FRACTION * serving
