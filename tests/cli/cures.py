"""Finds every fix that the source can print: its location, and its text with `{}` for values."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import kbsync
from kbsync.cli.main import COMMANDS

PACKAGE = Path(kbsync.__file__).parent

PLACES = {
    **dict.fromkeys(
        (
            "command",
            "command_line",
            "_command_line",
            "command_line_for_mirrors",
            "mirror_command",
            "_run",
            "typed",
            "limit_fix",
        ),
        0,
    ),
    "Obstacle": 1,
    "warning": 2,
    "wrong": 2,
    "Halt": 2,
    "CheckResult": 3,
}
"""Calls that have a fix, and its position among their arguments."""

_COMMAND = re.compile(rf"\bkbsync (?:--once|{'|'.join(COMMANDS)})\b|`[a-z]+ -")
"""A command of ours, or another program's in a sentence."""

_HANDED_ON = re.compile(
    r"((; )?(cure|fix|then|restore its owner|reinstall the parser packages with): |reinstall it: |"
    r"kbsync )?\{\}|#|\{\"version|kbsync: "
)
"""Texts that show a fix from elsewhere, the config that `init` writes, and JSON."""

_NOT_TOLD = ("examples", "CommandGroup")
"""Calls whose texts are help, which `tests/docs/test_commands.py` runs."""

_ON_THE_PAGE = re.compile(r"kbsync [a-z-]+[^\n\"<`,]*(?=[\"<`,])")
"""A command in the listener's page, in text or script."""

Test = TypeVar("Test", bound=Callable[..., object])

PROVEN: set[str] = set()
"""The fixes tested by the loaded test modules."""


def proves(*fixes: str) -> Callable[[Test], Test]:
    """Mark the test that causes these texts (`*` at the end: anything) and pastes them.

    If no command can fix a problem, the test checks that the text names the key, the file or the path.
    """
    PROVEN.update(fixes)
    return lambda test: test


def fits(fix: str, pattern: str) -> bool:
    """Return whether the pattern matches the fix, by its text alone or with its module."""
    text = fix if ".py: " in pattern else fix.partition(": ")[2].removeprefix("kbsync ")
    return text == pattern or (pattern.endswith("*") and text.startswith(pattern[:-1]))


def find_fixes() -> set[str]:
    """Return `module: text` of each fix."""
    results = set[str]()
    for file in sorted(PACKAGE.rglob("*.py")):
        texts = [text for node in _message_nodes(ast.parse(file.read_bytes())) for text in _cures_in(node)]
        module = file.relative_to(PACKAGE)
        results |= {f"{module}: {text}" for text in texts if text and not _HANDED_ON.match(text)}
    for file in sorted((PACKAGE / "server" / "static").iterdir()):
        commands = _ON_THE_PAGE.findall(file.read_text()) if file.suffix in (".js", ".html") else []
        valid_commands = [command for command in commands if command.split()[1] in (*COMMANDS, "--once")]
        results |= {f"server/static/{file.name}: {command}" for command in valid_commands}
    return results


def _message_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all texts that a person may see, as a whole; neither docstrings nor help."""
    for child in ast.iter_child_nodes(tree):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        is_help = isinstance(child, ast.Call) and getattr(child.func, "id", "") in _NOT_TOLD
        if not is_docstring and not is_help:
            if not isinstance(tree, ast.JoinedStr):
                yield child
            yield from _message_nodes(child)


def _cures_in(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="command" | "click"))):
            pass  # a decorator
        case ast.Call(func=ast.Name(id="install_command"), args=args):
            yield f"install {', '.join(map(ast.unparse, args))}"
        case ast.Call(func=func, args=args):
            name = getattr(func, "attr", getattr(func, "id", ""))
            yield from (text for arg in args[PLACES.get(name, 99) :][:1] for text in _texts(arg))
        case ast.keyword(arg="cure" | "fix" | "fix_if_stuck", value=value):
            yield from _texts(value)
        case ast.AnnAssign(target=target, value=ast.expr() as value) if _names_cure(ast.unparse(target)):
            yield from _texts(value)
        case ast.Assign(targets=[target], value=value) if _names_cure(ast.unparse(target)):
            values = value.values if isinstance(value, ast.Dict) else [value]
            yield from (text for value in values for text in _texts(value))
        case ast.FunctionDef(name=name) if _names_cure(name):
            returned = [
                child.value for child in ast.walk(node) if isinstance(child, ast.Return) and child.value
            ]
            yield from (text for returned_value in returned for text in _texts(returned_value))
        case ast.Constant() | ast.JoinedStr() if any(map(_COMMAND.search, _texts(node))):
            yield from _texts(node)


def _names_cure(name: str) -> bool:
    words = re.split(r"\W|_", name.lower())
    return "cure" in name.lower() or "fix" in words or "fixes" in words


def _texts(node: ast.AST) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return ["".join("".join(_texts(value)) or "{}" for value in values)]
        case ast.IfExp(body=body, orelse=other):
            return [*_texts(body), *_texts(other)]
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.Tuple(elts=words) | ast.List(elts=words)]):
            return [" ".join("".join(_texts(part)) or "{}" for part in words)]
    return []
