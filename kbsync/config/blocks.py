"""Marks for settings that are not a single value: lists, blocks, and a block that is one of several."""

from __future__ import annotations

from collections.abc import Mapping

from kbsync.config.kinds import Kind, value_shown


class About:
    """Describes a key whose value is a list or a block; `empty` says why an empty list is refused."""

    def __init__(self, about: str, *, empty: str = "") -> None:
        self.about = about
        self.empty = empty


class OneOf:
    """A block whose key `type` says which of `choices` it is; `default` where the key is absent."""

    def __init__(self, about: str, what: str, default: str, choices: Mapping[str, type]) -> None:
        self.about = about
        self.what = what
        self.default = default
        self.choices = choices

    def chosen(self, value: object) -> type | None:
        """The class that the block `value` is to be read as; None where there is none."""
        if not isinstance(value, dict):
            return None
        tag = value.get("type", self.default)
        return self.choices.get(tag if isinstance(tag, str) else value_shown(tag))


class Others:
    """A field that holds what a block's other keys say: by each of them, the settings it may have.

    `about` describes the block, `what` names the things that the keys stand for.
    """

    def __init__(self, about: str, what: str, known: Mapping[str, Mapping[str, Kind]]) -> None:
        self.about = about
        self.what = what
        self.known = known


class NotAKey:
    """A field of the model that cannot be set in a file."""


Mark = Kind | About | OneOf | Others
"""What stands in the annotation of every setting."""
