"""The metadata block that notes and blog posts begin with: YAML between ---, TOML between +++."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_LONGEST = 64 * 1024
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
    fields = _fields(text[:3], found[1])
    if fields is None:
        return FrontMatter(text)
    return FrontMatter(
        text=text[found.end() :],
        title=_title(fields.get("title")),
        tags=tuple(dict.fromkeys(t for key in _TAG_KEYS for t in _words(fields.get(key)))),
        lines=found[0].count("\n"),
    )


def _fields(fence: str, block: str) -> Mapping[str, object] | None:
    try:
        parsed = tomllib.loads(block) if fence == "+++" else _yaml(block)
    except (ValueError, RecursionError):
        return None
    if parsed is None and not block.strip():
        return {}
    return {str(k).lower(): v for k, v in parsed.items()} if isinstance(parsed, dict) else None


def _yaml(block: str) -> object:
    import yaml  # not needed for files that have no front matter

    try:
        return yaml.safe_load(block)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _title(value: object) -> str | None:
    return _scalar(value) if value is not None else None


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
    return " ".join(str(value).split()) or None
