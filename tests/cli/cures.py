"""Every cure that the source can print: where it is made, and its text with `{}` for what is filled in."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import kbsync
from kbsync.cli.main import COMMANDS

PACKAGE = Path(kbsync.__file__).parent
NOT_OURS = "standin"
"""What is no part of the program."""

WRITERS = ("cure", "_cure", "command", "pasted", "_run", "write", "typed", "cure_for_mirrors")
"""Methods and functions that make a command of ours one that can be pasted."""

PLACES = {"warning": 2, "wrong": 2, "CheckResult": 3, "Obstacle": 1, "Halt": 2}
"""Calls that take a cure by its place among their arguments."""

_COMMAND = re.compile(rf"\bkbsync (?:--once|{'|'.join(COMMANDS)})\b|`[a-z]+ -")
"""One of ours, or another program's in a sentence."""

_HANDED_ON = re.compile(
    r"(; (cure|then|give it back|reinstall what it reads with): |reinstall it: |kbsync )?\{\}"
    r"|#|\{\"version|kbsync: "
)
"""Texts that show a cure made elsewhere, the config that `init` writes, and JSON."""

_NOT_TOLD = ("examples", "CommandGroup")
"""Calls whose texts are help, which `tests/docs/test_commands.py` runs."""

_ON_THE_PAGE = re.compile(r"kbsync [a-z-]+[^\n\"<`,]*(?=[\"<`,])")
"""A command in the page of the listener, in text or script."""

Texts = Mapping[str, tuple[str, ...]]


Test = TypeVar("Test", bound=Callable[..., object])

PASTED: dict[str, Callable[..., object]] = {}
"""The test that pastes each, of the test modules that are loaded."""

TOLD: dict[str, Callable[..., object]] = {}
"""What no command can do: the test that shows that the words name the key, the file or the place."""


def pastes(*cures: str) -> Callable[[Test], Test]:
    """Marks the test that brings these texts about (`*` at the end: anything) and pastes them."""
    return lambda test: PASTED.update(dict.fromkeys(cures, test)) or test


def tells(*cures: str) -> Callable[[Test], Test]:
    """Marks the test that shows that the words of these name what a person has to look at."""
    return lambda test: TOLD.update(dict.fromkeys(cures, test)) or test


def fits(cure: str, pattern: str) -> bool:
    """Whether one of `cures` is meant: by its text wherever it is made, or by its module."""
    text = cure if ".py: " in pattern else cure.partition(": ")[2].removeprefix("kbsync ")
    return text == pattern or (pattern.endswith("*") and text.startswith(pattern[:-1]))


def cures() -> set[str]:
    """`module: text` of each."""
    found = set[str]()
    for file in sorted(PACKAGE.rglob("*.py")):
        module = str(file.relative_to(PACKAGE))
        if not module.startswith(NOT_OURS):
            texts = set(_in(ast.parse(file.read_bytes()), {}))
            found |= {f"{module}: {text}" for text in texts if text and not _HANDED_ON.match(text)}
    for file in sorted((PACKAGE / "server" / "static").iterdir()):
        commands = _ON_THE_PAGE.findall(file.read_text()) if file.suffix in (".js", ".html") else []
        known = [command for command in commands if command.split()[1] in (*COMMANDS, "--once")]
        found |= {f"server/static/{file.name}: {command}" for command in known}
    return found


def _in(tree: ast.AST, named: Texts) -> Iterator[str]:
    """Those in a module or function; docstrings and help aside. `named`: texts by the names they have."""
    nodes = list(_told(tree))
    named = {**named, **_named(nodes)}
    is_cure = "cure" in getattr(tree, "name", "")
    for node in nodes:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _in(node, named)
            case ast.Call(func=func, args=[first, *_] as args):
                if _writes(func):
                    yield from _texts(first, named)
                name = func.id if isinstance(func, ast.Name) else ""
                if name == "install_command":
                    yield f"install {', '.join(map(ast.unparse, args))}"
                yield from (text for one in args[PLACES.get(name, 99) :][:1] for text in _texts(one, named))
            case ast.keyword(arg="cure", value=value):
                yield from _texts(value, named)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if "cure" in name.lower():
                values = value.values if isinstance(value, ast.Dict) else [value]
                yield from (text for one in values for text in _texts(one, {}))
            case ast.Return(value=ast.expr() as value) if is_cure:
                yield from _texts(value, named)
            case ast.Constant() | ast.JoinedStr() if (text := _text(node)) and _COMMAND.search(text):
                yield text


def _named(nodes: list[ast.AST]) -> dict[str, tuple[str, ...]]:
    found = dict[str, tuple[str, ...]]()
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                pairs = list(zip(names, values, strict=True))
            case ast.Assign(targets=[name], value=value):
                pairs = [(name, value)]
            case _:
                continue
        for name, value in pairs:
            if isinstance(name, ast.Name):
                found[name.id] = (*found.get(name.id, ()), *_texts(value, {}))
    return found


def _texts(node: ast.expr, named: Texts) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield from named.get(node.id, ())
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body, named), *_texts(node.orelse, named))
    elif (text := _text(node)) is not None:
        yield text


def _writes(func: ast.expr) -> bool:
    match func:
        case ast.Attribute(value=ast.Name(id="command" | "click")):
            return False  # a decorator
        case ast.Attribute(attr=name):
            return name in WRITERS and name != "write"  # a stream's
        case ast.Name(id=name):
            return name in WRITERS and name != "command"
    return False


def _told(tree: ast.AST) -> Iterator[ast.AST]:
    """What may be shown to a person; of a function within only that it is there."""
    for child in ast.iter_child_nodes(tree):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        is_help = isinstance(child, ast.Call) and getattr(child.func, "id", "") in _NOT_TOLD
        if is_docstring or is_help:
            continue
        is_filled = isinstance(tree, ast.JoinedStr) and not isinstance(child, ast.FormattedValue)
        if not is_filled:
            yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _told(child)


def _text(node: ast.AST) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(each) or "{}" for each in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return (_text(left) or "{}") + (_text(right) or "{}")
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.Tuple(elts=words) | ast.List(elts=words)]):
            return " ".join(_text(each) or "{}" for each in words)
        case ast.IfExp(body=one, orelse=other):
            return f"{_text(one) or '{}'} | {_text(other) or '{}'}"
    return None
