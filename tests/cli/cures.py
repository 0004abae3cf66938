"""Every cure that the source can print: where it is made, and its text with `{}` for what is filled in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import kbsync
from kbsync.cli.program import COMMANDS

PACKAGE = Path(kbsync.__file__).parent
NOT_OURS = ("standin", "targets/memory")
"""What is no part of the program."""

WRITERS = ("cure", "command", "pasted", "_run")
"""Methods that make a command of ours one that can be pasted; `write` and `cure` are functions."""

_COMMAND = re.compile(rf"\bkbsync (?:--once|{'|'.join(COMMANDS)})\b")
_HANDED_ON = re.compile(r"(; (cure|then): )?\{\}|#|\{\"version|kbsync: ")
"""Texts that show a cure made elsewhere, the config that `init` writes, and JSON."""

_NOT_TOLD = ("examples", "Family")
"""Calls whose texts are help, which `tests/docs/test_commands.py` runs."""


def cures() -> set[str]:
    """`module: text` of each."""
    found = set[str]()
    for file in sorted(PACKAGE.rglob("*.py")):
        module = str(file.relative_to(PACKAGE))
        if not module.startswith(NOT_OURS):
            texts = set(_in(ast.parse(file.read_bytes())))
            found |= {f"{module}: {text}" for text in texts if not _HANDED_ON.match(text)}
    return found


def _in(tree: ast.AST) -> Iterator[str]:
    """In the order of the source; docstrings and help aside."""
    for node in _told(tree):
        match node:
            case ast.Call(func=func, args=[first, *_]) if (
                _writes(func) and (text := _text(first)) is not None
            ):
                yield text
            case ast.keyword(arg="cure", value=value) if text := _text(value):
                yield text
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name.lower().strip("_") == "cure":
                yield from filter(None, [_text(value)])
            case ast.Constant() | ast.JoinedStr() if (text := _text(node)) and _COMMAND.search(text):
                yield text


def _writes(func: ast.expr) -> bool:
    match func:
        case ast.Attribute(value=ast.Name(id="command" | "click")):
            return False  # a decorator
        case ast.Attribute(attr=name):
            return name in WRITERS
        case ast.Name(id=name):
            return name in ("cure", "write")
    return False


def _told(tree: ast.AST) -> Iterator[ast.AST]:
    """What may be shown to a person."""
    yield tree
    if isinstance(tree, ast.JoinedStr):
        yield from (
            each for part in tree.values if isinstance(part, ast.FormattedValue) for each in _told(part.value)
        )
        return
    body = getattr(tree, "body", None)
    for child in ast.iter_child_nodes(tree):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        is_help = isinstance(child, ast.Call) and getattr(child.func, "id", "") in _NOT_TOLD
        if not (is_docstring and isinstance(body, list)) and not is_help:
            yield from _told(child)


def _text(node: ast.expr) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(each) or "{}" for each in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return (_text(left) or "{}") + (_text(right) or "{}")
        case ast.IfExp(body=one, orelse=other):
            return f"{_text(one) or '{}'} | {_text(other) or '{}'}"
    return None
