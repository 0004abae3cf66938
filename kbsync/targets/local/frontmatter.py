"""The metadata block that notes and blog posts begin with: YAML between ---, TOML between +++.

Read in the program itself, so nothing in it may cost more than its length: it has a bound, YAML's merge keys
(each line of which can double all before it) are not followed, and TOML's dotted keys, which cost the cube
of their parts, may have only so many.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kbsync.targets.local.pieces import LONGEST_TITLE

_LONGEST = 64 * 1024
_MOST_DOTS = 100  # on one line of TOML, where a key with so many parts would be
_BLOCK = {
    "---": re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE),
    "+++": re.compile(r"\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE),
}
_TAG_KEYS = ("tags", "tag", "keywords", "categories", "category")


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """What the block said, the text after it, and how many lines were taken off."""

    text: str
    title: str | None = None
    tags: tuple[str, ...] = ()
    lines: int = 0


def split(text: str) -> FrontMatter:
    """Take the front matter off `text`. What cannot be read as such stays in the text, so nothing is lost."""
    pattern = _BLOCK.get(text[:3])
    found = pattern.match(text, 0, _LONGEST) if pattern else None
    if found is None:
        return FrontMatter(text)
    try:
        fields = _fields(text[:3], found[1])
        title = _scalar(fields.get("title"))
        tags = tuple(dict.fromkeys(t for key in _TAG_KEYS for t in _words(fields.get(key))))
    except (ValueError, RecursionError):  # a number of 5,000 digits is a ValueError only when it is written
        return FrontMatter(text)
    return FrontMatter(text[found.end() :], title, tags, lines=found[0].count("\n"))


def _fields(fence: str, block: str) -> Mapping[str, object]:
    """Raises ValueError or RecursionError for what is no mapping."""
    parsed = _toml(block) if fence == "+++" else _yaml(block)
    if parsed is None and not block.strip():
        return {}
    if not isinstance(parsed, dict):
        raise ValueError("no mapping")
    return {str(k).lower(): v for k, v in parsed.items()}


def _toml(block: str) -> object:
    if any(line.count(".") > _MOST_DOTS for line in block.split("\n")):
        raise ValueError("a key of too many parts")
    return tomllib.loads(block)


def _yaml(block: str) -> object:
    import yaml  # not needed for files that have no front matter

    class Loader(yaml.SafeLoader):
        """Leaves merge keys (`<<`) as they stand, and then has no value to make of them: YAMLError."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Nothing is merged."""

    try:
        return yaml.load(block, Loader)  # noqa: S506 # a SafeLoader all the same
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _words(value: object) -> Iterable[str]:
    """Tags come as a list, as "a, b", or as one word."""
    if isinstance(value, list):
        return [word for item in value if (word := _scalar(item))]
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return [word] if (word := _scalar(value)) else []


def _scalar(value: object) -> str | None:
    if value is None or isinstance(value, (dict, list, set, bytes)):
        return None
    return " ".join(str(value)[:_LONGEST].split())[:LONGEST_TITLE] or None
