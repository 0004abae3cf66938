"""The catalogue of failures has everything in it that the source can say, and the docs have it, too."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import kbsync
from kbsync.cli.exit_codes import Code
from kbsync.cli.report import LEVELS as LEVELS_OF_REPORT
from tests.cli.catalogue import CODES, ELSEWHERE, EVENTS, MIRRORS

PACKAGE = Path(kbsync.__file__).parent
DOCS = PACKAGE.parent / "docs"
NOT_OURS = "standin"
"""What is no part of the program."""

LEVELS = {"warning": "warning", "error": "error", "exception": "error", "critical": "critical"}


@functools.cache
def modules() -> list[ast.Module]:
    files = sorted(PACKAGE.rglob("*.py"))
    return [
        ast.parse(file.read_bytes())
        for file in files
        if not str(file.relative_to(PACKAGE)).startswith(NOT_OURS)
    ]


@functools.cache
def constants() -> dict[str, str]:
    """Texts that have a name at the top of some module."""
    return {
        target.id: node.value.value
        for module in modules()
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }


def text_of(node: ast.expr, named: dict[str, str]) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return named.get(name)
    return None


@functools.cache
def calls() -> list[ast.Call]:
    return [node for module in modules() for node in ast.walk(module) if isinstance(node, ast.Call)]


def halts() -> set[str]:
    """Every reason a mirror may halt for."""
    named, found = constants(), set[str | None]()
    for call in calls():
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name in ("Halt", "Halted", "show_trouble", "note_unfinished") and call.args:
            found.add(text_of(call.args[0], named))
        found.update(text_of(word.value, named) for word in call.keywords if word.arg == "halt")
    return {reason for reason in found if reason} - {"first-pass"}  # of /readyz alone


def events() -> dict[str, str]:
    """Every event above info, by the highest level it is logged at."""
    found: dict[str, str] = {}
    for call in calls():
        match call:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[first, *_]):
                event = text_of(first, {})
            case ast.Call(func=ast.Attribute(value=ast.Name(id="_log"), attr=level)):
                event = None  # library style: the event stands beside it, see below
            case _:
                continue
        if level in LEVELS and event:
            found[event] = LEVELS[level]
    return found


def events_of_libraries() -> set[str]:
    """Events that modules without structlog name in a dictionary beside the call."""
    return {
        node.values[0].value
        for module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Dict)
        and [getattr(key, "value", None) for key in node.keys] == ["event"]
        and isinstance(node.values[0], ast.Constant)
    }


def test_every_halt_is_in_the_catalogue() -> None:
    known = {row.reason for row in MIRRORS} | {row.logged for row in MIRRORS} | set(ELSEWHERE)
    assert halts() == known - {""}


def test_every_exit_code_is_in_the_catalogue() -> None:
    assert set(CODES) == {code.value for code in Code}
    shown = {row.name: row.code for row in MIRRORS}
    assert all(shown[where] == code for code, where in CODES.items() if where in shown)


def test_every_event_a_person_may_have_to_act_on_is_in_the_catalogue() -> None:
    # document.failed is told by the name its event has; what libraries log goes through one relay
    named = LEVELS_OF_REPORT | events() | dict.fromkeys(events_of_libraries(), "error")
    assert named | {"document.failed": "warning", "library.logged": "warning"} == EVENTS


def test_the_docs_know_every_halt_event_and_code() -> None:
    pages = "\n".join(page.read_text() for page in DOCS.rglob("*.md"))
    reasons = {row.reason for row in MIRRORS} | {row.logged for row in MIRRORS} | set(ELSEWHERE)
    assert [reason for reason in sorted(reasons - {""}) if f"`{reason}`" not in pages] == []
    logs = (DOCS / "logs.md").read_text()
    assert [event for event in EVENTS if f"`{event}`" not in logs] == []
    troubleshooting = (DOCS / "troubleshooting.md").read_text()
    assert [reason for reason in sorted(reasons - {""}) if f"`{reason}`" not in troubleshooting] == []
    commands = (DOCS / "commands.md").read_text()
    assert [code for code in CODES if not re.search(rf"\|.*\b{code}\b.*\|", commands)] == []
