"""Reads Obsidian canvases (JSON Canvas 1.0): the cards from top to bottom, group by group, and the labels of
the edges.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass  # noqa: TID251 (ordered)
from typing import Any

from kbsync.index.document import Parsed
from kbsync.index.read.encoding import decode
from kbsync.index.read.text import decoded_inline, deepened, one_line, tidied
from kbsync.index.read.zip import damaged

_MAX_GROUPS = 200
"""Maximum number of groups to which cards are assigned; each card is compared with each group.

Cards of any further groups are listed as if they had no group.
"""


def read_canvas(raw: bytes) -> Parsed:
    """Return the canvas as Markdown. Raises `Rejected` if the file isn't a canvas."""
    try:
        canvas = json.loads(decode(raw))
        nodes = [_Node.of(node) for node in canvas.get("nodes") or () if isinstance(node, Mapping)]
        edges = [edge for edge in canvas.get("edges") or () if isinstance(edge, Mapping)]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged("the file is not a canvas, or is incomplete") from error
    groups = sorted(node for node in nodes if node.is_group)
    blocks = list[str]()
    inside = dict[int, list[_Node]]()  # by index of the group, -1 outside of any
    smallest_first = sorted(enumerate(groups[:_MAX_GROUPS]), key=lambda pair: pair[1].area)
    for node in sorted(node for node in nodes if not node.is_group):
        index = next((index for index, group in smallest_first if group.surrounds(node)), -1)
        inside.setdefault(index, []).append(node)
    blocks += _texts(inside.get(-1, ()), 0)
    for index, group in enumerate(groups):
        blocks += [f"## {group.text}" if group.text else "", *_texts(inside.get(index, ()), 2)]
    blocks += [one_line(label) for edge in edges if isinstance(label := edge.get("label"), str)]
    return Parsed(tidied("\n\n".join(filter(None, blocks))))


@dataclass(frozen=True, slots=True, order=True)
class _Node:
    """A card or a group. Nodes are sorted from top to bottom, then from left to right."""

    y: float
    x: float
    height: float
    width: float
    is_group: bool
    text: str

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> _Node:
        """Create a node from its JSON."""
        y, x, height, width = (
            float(value) if isinstance(value := node.get(key), int | float) else 0.0
            for key in ("y", "x", "height", "width")
        )
        is_group = node.get("type") == "group"
        match node.get("type"):
            case "group":
                text = one_line(_string(node, "label"))
            case "file":
                text = one_line(f"{_string(node, 'file')} {_string(node, 'subpath').lstrip('#')}")
            case "link":
                text = _string(node, "url")
            case _:
                text = _string(node, "text")
        return cls(y, x, height, width, is_group, text)

    @property
    def area(self) -> float:
        """Return the area of the node's rectangle."""
        return self.height * self.width

    def surrounds(self, other: _Node) -> bool:
        """Return whether the center of the other node is inside this one."""
        x, y = other.x + other.width / 2, other.y + other.height / 2
        return self.x <= x <= self.x + self.width and self.y <= y <= self.y + self.height


def _string(node: Mapping[str, Any], key: str) -> str:
    value = node.get(key)
    return value if isinstance(value, str) else ""


def _texts(nodes: Iterable[_Node], level: int) -> list[str]:
    return [deepened(decoded_inline(node.text), level) for node in nodes]
