"""Recipes, as far as anybody but their target may read them. Pure."""

from __future__ import annotations


def can_be_cut_to(before: str, after: str) -> bool:
    """A document of the one recipe can be cut anew to the other: what stands behind a `!` is the same."""
    return before.partition("!")[2] == after.partition("!")[2]
