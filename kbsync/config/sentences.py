"""What is wrong with a setting, in words for a person, for each of pydantic's kinds of error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kbsync.config.draft import Draft
from kbsync.config.kinds import not_among, value_shown
from kbsync.config.model import TARGETS
from kbsync.config.problems import Loc, nearest
from kbsync.config.shape import Shape, about, blocks, known_keys, secret_keys
from kbsync.config.tree import Value

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def sentence(loc: Loc, detail: ErrorDetails, draft: Draft, shape: Shape) -> str:
    """The sentence for the error `detail` at `loc`."""
    block, key = shape.classes.get(loc[:-1]), str(loc[-1]) if loc else ""
    if block is not None and key not in known_keys(block):
        return unknown(key, known_keys(block))
    match detail["type"]:
        case "value_error":
            return str(detail["ctx"]["error"])
        case "missing" if block is not None:
            file = f"; or {key}_file, a file that holds it" if key in secret_keys(block) else ""
            return f"is missing; allowed: {about(block, key)}{file}"
        case "union_tag_invalid":
            union = shape.tagged[loc]
            return not_among(draft.at((*loc, "type")), union.choices, union.what)
        case "tuple_type":
            allowed = "a list, each item in a line of its own with `- ` before it, or all in [ ]"
        case "union_tag_not_found":
            allowed = f"a block of keys, such as {{type: {shape.tagged[loc].default}}}"
        case _:
            allowed = f"a block of keys{_keys_of(detail)}"
    return f"{_form(draft.at(loc))} is not taken; allowed: {allowed}"


def _form(value: Value) -> str:
    """What `value` is, but not its text: where a block is expected, it may hold a secret."""
    return "a text" if isinstance(value, str) else value_shown(value)


def _keys_of(detail: ErrorDetails) -> str:
    """The keys of the class that was expected, where pydantic names one."""
    name = detail.get("ctx", {}).get("class_name")
    expected = next((block for _, block in blocks() if block.__name__ == name), None)
    return "" if expected is None else f": {', '.join(known_keys(expected))}"


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
