"""A list of pages, `urls.yaml` in a mirrored folder: each entry is a document, as if it were a link file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kbsync.config.gptbots import CUTTING, cutting_problems
from kbsync.config.kinds import Duration, RefusedValue, ValueKind, Whereabouts
from kbsync.config.problems import nearest, shown
from kbsync.config.yaml import Tree, UnreadableConfig, Value, read_yaml
from kbsync.config.zhipu import SLICING, slicing_problems
from kbsync.core.links import Link, NoLink, checked, write_link

NAME = "urls.yaml"
LARGEST = 1_000_000
"""Bytes; what is larger is no list that a person keeps."""

SETTINGS: Mapping[str, ValueKind] = {**CUTTING, **SLICING, "refresh": Duration("", least=600.0)}
"""What an entry may set besides; a target takes its own of them."""

_NAMELESS = {"kind", "header_row", "parse_image", "word_num_limit"}  # of files alone
_KEYS = ("url", "name", *(key for key in SETTINGS if key not in _NAMELESS))
_LONGEST_NAME = 100
_NOWHERE = Whereabouts(Path("/"), None)
_UNFIT = re.compile(r"[^A-Za-z0-9.-]+")


class Unusable(ValueError):
    """Nothing of the list counts; `str()` says the line, the cause and the cure."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(f"line {line}: {message}" if line else message)


def read_list(content: bytes) -> dict[str, bytes]:
    """Link files by name, as the list stands for them. Raises Unusable for the first thing that is wrong.

    An entry is an address, or a block with `url` and, if wanted, `name`, `refresh` and how it is cut.
    """
    tree = _tree(content)
    if not isinstance(tree.value, list):
        raise Unusable(None, "holds no list; write `- https://…` for each page, or [] for none")
    links: dict[str, bytes] = {}
    for number, entry in enumerate(tree.value):
        line = tree.lines.get((number,))
        try:
            name, link = _link(entry)
        except ValueError as reason:
            raise Unusable(line, str(reason)) from None
        if name in links:
            raise Unusable(line, f"{shown(name)} is there twice; give each entry a name of its own")
        links[name] = write_link(link)
    return links


def _tree(content: bytes) -> Tree:
    try:
        tree = read_yaml(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Unusable(None, "is no text in UTF-8") from None
    except UnreadableConfig as reason:
        raise Unusable(reason.line, str(reason)) from None
    for loc, words in tree.refused:
        raise Unusable(tree.lines.get(loc), f"{'.'.join(map(str, loc[1:]))} {words}".strip())
    for _, line, message in tree.notes:
        raise Unusable(line, message)
    return tree


def _link(entry: Value) -> tuple[str, Link]:
    """The file name and the link of an entry. Raises ValueError."""
    block = {"url": entry} if isinstance(entry, str) else entry
    if not isinstance(block, dict):
        raise ValueError("an entry is an address, or a block with url")
    for key in block:
        if key not in _KEYS:
            close = nearest(key, _KEYS)
            hint = f"; did you mean {close}?" if close else ""
            raise ValueError(f"unknown key {shown(key)}; allowed: {', '.join(_KEYS)}{hint}")
    link = Link(_address(block), dict(_settings(block)))
    _check_together(link.settings)
    return f"{_name(block, link.address)}.url", link


def _address(block: Mapping[str, Value]) -> str:
    url = block.get("url")
    if not isinstance(url, str):
        raise ValueError("url is missing" if url is None else "url is no text")
    try:
        return checked(url)
    except NoLink as reason:
        raise ValueError(f"url: {reason}") from None


def _settings(block: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        if key in SETTINGS:
            try:
                SETTINGS[key].read(value, _NOWHERE)
            except RefusedValue as reason:
                raise ValueError(f"{key}: {reason}") from None
            yield key, value


def _check_together(settings: Mapping[str, Any]) -> None:
    """What a rule in the config for link files could not say either. Raises ValueError."""
    for problems in (slicing_problems, cutting_problems):
        for key, message in problems("*.url", settings):
            raise ValueError(f"{key}: {message}")


def _name(block: Mapping[str, Value], address: str) -> str:
    """The name that is given, or one that only this address has."""
    name = block.get("name")
    if name is None:
        readable = _UNFIT.sub("-", address.partition("://")[2]).strip("-.")[:60]
        return f"{readable}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    is_fit = isinstance(name, str) and name.isprintable() and name == name.strip() and "/" not in name
    if not (is_fit and 0 < len(str(name)) <= _LONGEST_NAME and not str(name).startswith(".")):
        raise ValueError(f"name: allowed is a text of up to {_LONGEST_NAME} characters without / on one line")
    return str(name)
