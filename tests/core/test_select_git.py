"""Compares selection with git on random patterns and trees."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kbsync.contract.target import Limits
from kbsync.core.model import FileChoice, FileKind
from kbsync.core.selection import Rules
from tests.programs import needs
from tests.share import long

pytestmark = needs("git")

NAMES = ["a", "b", "ab", "foo", "foo.md", "b.md", "x y", "a\nb", "#c", "!d", "öü", "[z]", "a*", "A"]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)
WORDS = [
    *NAMES,
    *("*", "?", "*.md", "f*", "*o*", "a?", "[ab]", "[!a]", "[a-f]oo", "[[:alpha:]]", "[]z]*", "b*d"),
]
ESCAPED = [r"\#c", r"\!d", r"\[z\]", r"a\*", r"\a", r"[\]z]", "x y", "x\\ y"]
SEGMENTS = st.sampled_from(
    [segment for segment in WORDS if "\n" not in segment and segment != "[z]"] + ESCAPED
)
PIECES = st.lists(st.one_of(SEGMENTS, st.just("**")), min_size=1, max_size=4).map("/".join)
LINES = st.tuples(
    st.sampled_from(["", "", "!", "/", "!/"]), PIECES, st.sampled_from(["", "", "/", " ", "/  "])
).map("".join)
FILES = st.lists(LINES, max_size=6).map(lambda lines: "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        yield Path(folder)


def cleared(repository: Path) -> None:
    for entry in repository.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def create_files(repository: Path, paths: list[str]) -> list[str]:
    """Create the files of `paths` that fit into one tree, and return them."""
    cleared(repository)
    for path in paths:
        try:
            (repository / path).parent.mkdir(parents=True, exist_ok=True)
            (repository / path).touch()
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    return [path for path in paths if (repository / path).is_file()]


def ignored_by_git(repository: Path, paths: list[str]) -> set[str]:
    completed = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=repository,
        input=b"".join(os.fsencode("./" + path) + b"\0" for path in paths),
        capture_output=True,
        check=False,
    )
    assert completed.returncode in (0, 1), completed.stderr
    return {os.fsdecode(path).removeprefix("./") for path in completed.stdout.split(b"\0") if path}


def excluded_by_us(rules: Rules, ignores: dict[str, str], path: str) -> bool:
    folder = ""
    rules = rules.below("", ignores[""]) if "" in ignores else rules
    for name in path.split("/")[:-1]:
        folder = f"{folder}/{name}" if folder else name
        if rules.enters(folder).choice is FileChoice.EXCLUDED:
            return True
        rules = rules.below(folder, ignores[folder]) if folder in ignores else rules
    return rules.verdict(path, 1, FileKind.FILE).choice is FileChoice.EXCLUDED


@long
@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(paths=st.lists(PATHS, min_size=1, max_size=12, unique=True), top=FILES, nested=FILES)
def test_ignore_files_match_git(repository: Path, paths: list[str], top: str, nested: str) -> None:
    present = create_files(repository, paths)
    ignores = {"": top}
    (repository / ".gitignore").write_text(top, encoding="utf-8")
    folder = next((path.rpartition("/")[0] for path in present if "/" in path), None)
    if folder:
        ignores[folder] = nested
        (repository / folder / ".gitignore").write_text(nested, encoding="utf-8")
    rules = Rules(None, (), Limits())
    ours = {path for path in present if excluded_by_us(rules, ignores, path)}
    assert ours == ignored_by_git(repository, present), (ignores, present)


@pytest.mark.parametrize(
    ("line", "path", "is_ignored"),
    [
        ("a/**/*/**/b/c", "a/x/b/c", True),
        ("a/**/b/**/b/c", "a/b/x/b/c", True),
        ("**/a/**/b/**/c", "a/a/b/b/c", True),
        ("a/**/b/**/c", "a/b/x", False),
        ("x/a[.-0]b", "x/a/b", False),
        ("x/a[.-0]b", "x/a.b", True),
        ("x/a[!c]b", "x/a/b", False),
    ],
)
def test_long_lines_and_ranges_spanning_a_slash_match_git(
    repository: Path, line: str, path: str, is_ignored: bool
) -> None:
    present = create_files(repository, [path])
    (repository / ".gitignore").write_text(line + "\n", encoding="utf-8")
    assert ignored_by_git(repository, present) == ({path} if is_ignored else set())
    assert excluded_by_us(Rules(None, (), Limits()), {"": line}, path) is is_ignored


@long
@settings(max_examples=300)
@given(include=st.lists(LINES, min_size=1, max_size=4), path=PATHS)
def test_included_files_are_in_entered_folders(include: list[str], path: str) -> None:
    rules = Rules(tuple(include), (), Limits())
    if rules.verdict(path, 1, FileKind.FILE).choice is not FileChoice.EXCLUDED:
        parts = path.split("/")
        for length in range(1, len(parts)):
            assert rules.enters("/".join(parts[:length])).choice is FileChoice.SELECTED
