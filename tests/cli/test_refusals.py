"""Tests commands that can't do their work: the situations, the messages and the exit codes."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from kbsync.state import lock
from tests.cli.cures import proves
from tests.cli.pasting import paste
from tests.cli.sandbox import Sandbox
from tests.share import enumerated, long

Before = Callable[[Sandbox, contextlib.ExitStack], None]


def nothing(_sandbox: Sandbox, _stack: contextlib.ExitStack) -> None:
    """A config, and a folder with a file, not mirrored yet."""


def two(sandbox: Sandbox, _stack: contextlib.ExitStack) -> None:
    sandbox.add_mirror("other")


def mirrored(sandbox: Sandbox, _stack: contextlib.ExitStack) -> None:
    assert sandbox.run("--once", "-q").code == 0


def bare(sandbox: Sandbox, _stack: contextlib.ExitStack) -> None:
    sandbox.config.unlink()


def running(sandbox: Sandbox, stack: contextlib.ExitStack) -> None:
    assert sandbox.run("--once", "-q").code == 0
    stack.enter_context(lock.held(sandbox.state))


def newer(sandbox: Sandbox, _stack: contextlib.ExitStack) -> None:
    assert sandbox.run("--once", "-q").code == 0
    with contextlib.closing(apsw.Connection(str(sandbox.state / "state.db"))) as database:
        database.pragma("user_version", 99)


def damaged(sandbox: Sandbox, _stack: contextlib.ExitStack) -> None:
    assert sandbox.run("--once", "-q").code == 0
    for file in sandbox.state.glob("state.db-*"):
        file.unlink()
    (sandbox.state / "state.db").write_bytes(b"this is no database" * 500)


def described(text: str) -> Before:
    """Write another config."""

    def describe(sandbox: Sandbox, _stack: contextlib.ExitStack) -> None:
        sandbox.config.write_text(text.format(docs=sandbox.docs))

    return describe


@dataclass(frozen=True)
class Wrong:
    """After `before`, `words` fail with `code` and print `messages` ({root}, {config}: their paths)."""

    words: str
    code: int
    messages: tuple[str, ...]
    before: Before = nothing


def wrong(words: str, *messages: str, before: Before = nothing, code: int = 2) -> Wrong:
    return Wrong(words, code, messages, before)


WRONG = (
    wrong("status --config x.yaml --folder docs", "--config and --folder cannot be used together"),
    wrong("--once --folder docs/a.md", "--folder: docs/a.md is a file; choose a folder"),
    wrong(
        "status",
        "no config found, and no --folder given; searched: ",
        "or write a config with: kbsync init DIR",
        before=bare,
    ),
    *(wrong(f"--once --{option} ''", "is empty") for option in ("folder", "config", "state-dir")),
    wrong("--json", "--json"),
    wrong(
        "completion", "Missing argument 'SHELL'. Choose from: bash, zsh, fish; see: kbsync completion --help"
    ),
    wrong("--json status", "--json"),
    wrong("docs", "docs is a folder, not a command; to mirror it: kbsync --folder docs"),
    wrong("--once docs", "to mirror it: kbsync --once --folder docs"),
    wrong("--state-dir s docs", "to mirror it: kbsync --state-dir s --folder docs"),
    wrong(
        "--once --target openai --base b docs --state-dir=s",
        "to mirror it: kbsync --once --target openai --base b --folder docs --state-dir=s",
    ),
    wrong("--config x.yaml --once docs", "to mirror it: kbsync --once --folder docs"),
    wrong("search '' --mirror handbook", "or type one with: kbsync search -i ", " --mirror handbook"),
    wrong("search type:md --mirror a --mirror b", "newest changes: kbsync history ", "--mirror a --mirror b"),
    wrong("search x --after someday", "2026-01-31", before=mirrored),
    wrong(
        "search x --after 10000-01-01",
        "neither a duration such as 1d nor a date",
        before=mirrored,
    ),
    wrong("status --mirror nobody", "there is no mirror 'nobody'; known mirrors: handbook"),
    wrong("search alpha", "{root}/docs has not been mirrored yet; run: kbsync --once"),
    wrong("search alpha", "{root}/docs and {root}/other have not been mirrored yet", before=two),
    wrong(
        "--once --state-dir docs/state",
        "the state directory {root}/docs/state is inside the mirrored folder {root}/docs; choose ",
    ),
    wrong(
        "--once --dry-run --state-dir docs/state",
        "the state directory {root}/docs/state is inside the mirrored folder {root}/docs; choose ",
    ),
    wrong("plan --state-dir .", "{root}/docs is inside the state directory {root}; choose another"),
    wrong(
        "init docs --state-dir docs/state",
        "the state directory {root}/docs/state is inside the mirrored folder {root}/docs; choose ",
        before=bare,
    ),
    wrong("--once --state-dir .", "{root}/docs is inside the state directory {root}; choose another"),
    wrong("--once --state-dir docs/a.md/x", "docs/a.md/x", "choose another with --state-dir"),
    wrong(
        "init docs",
        "{config} already exists; choose another file with --config FILE, or add the folder to this config: "
        "kbsync add {root}/docs",
    ),
    wrong("init docs/a.md", "docs/a.md is a file; choose a folder", before=bare),
    wrong("init 'no way'", "no way does not exist; create it with: mkdir -p 'no way'", before=bare),
    wrong("init --folder -no", "pass the folder as an argument: kbsync init ./-no"),
    wrong("add docs --folder -no", "pass the folder as an argument: kbsync add ./-no"),
    wrong(
        "add docs --folder docs --config /srv/team.yaml --state-dir /srv/state",
        "pass the folder as an argument: kbsync add docs --config /srv/team.yaml --state-dir /srv/state",
    ),
    wrong("init docs --base 5", "--base and --create do not apply to a target of type local", before=bare),
    wrong("init docs --create team", "--create do not apply to a target of type local", before=bare),
    wrong("init docs --base-url https://a", "--base-url: a target of type local has no URL", before=bare),
    wrong("init docs --key-env KEY", "--key-file do not apply to a target of type local", before=bare),
    wrong("init --folder docs", "pass the folder as an argument: kbsync init docs"),
    wrong("init docs --config docs/a.md/x", "x cannot be created (", "another file with --config"),
    wrong("search -i", "search -i needs a terminal; omit -i"),
    wrong("search -i --json", "-i cannot be used with --files, --json, --rerank or --explain"),
    wrong("status --watch --json", "--watch cannot be used with ", "see: kbsync status --help"),
    wrong("init docs --target zhipu", "pass --base ID", before=bare),
    wrong("search ' '", "the query is empty; pass one"),
    wrong("search --type pdf", "only filters; add a word", "documents: kbsync status --documents"),
    wrong("search 'path:\"my notes/\"' -k3", "only filters; add a word", "newest changes: kbsync history"),
    wrong("search --after 1d path:a/ type:md", "only filters; add a word", "kbsync history"),
    wrong("search x -0", "-0 needs --files"),
    wrong(
        "search '-draft plan' x",
        "put -- before a query with a word that begins with a minus sign: kbsync search -- '-draft plan x'",
        "see: kbsync search --help",
    ),
    wrong("search boiler -tyres", ": kbsync search -- 'boiler -tyres'; see: "),
    wrong("search -k3 boiler -kettle", ": kbsync search -k3 -- 'boiler -kettle'; see: "),
    wrong(
        "--folder docs search boiler -tyres --type pdf '$x' --json",
        ": kbsync --folder docs search --type pdf --json -- 'boiler -tyres $x'; see: ",
    ),
    wrong("search -kidney", "the query has only excluded words; add a word to search for"),
    wrong("search -kidney --nothing", "No such option", "--nothing"),
    wrong("ask '-\"first draft\" plan'", "kbsync ask -- '-\"first draft\" plan'"),
    wrong("search x --files --json", "--files and --json cannot be used together"),
    wrong("status --check --max-age soon", "15m", "see: kbsync status --help"),
    wrong("status --max-age 1h", "--max-age needs --check; see: kbsync status --help"),
    wrong("stauts", "No such command 'stauts'. Did you mean 'status'? See: kbsync --help"),
    wrong("status --nothing", "No such option", "--nothing", "see: kbsync status --help"),
    wrong("state backup docs/a.md", "docs/a.md exists; choose a new file", before=mirrored),
    wrong(
        "state backup no/x", "no/x cannot be created (no such file", "choose another file", before=mirrored
    ),
    wrong("retry no.md", "no mirror has no.md; pass the path of a mirrored file", before=mirrored),
    wrong(f"forget {'x' * 300}", "the state has no mirror", before=mirrored),
    wrong("forget \udcff", r"the state has no mirror named '\udcff'; its mirrors: handbook", before=mirrored),
    wrong("remove \udcff --keep", r"there is no mirror '\udcff'; known mirrors: handbook", before=mirrored),
    wrong("forget nobody", "the state has no mirror named 'nobody'; its mirrors: handbook", before=mirrored),
    wrong("forget handbook", "1 document", "not a terminal; pass --yes to forget handbook", before=mirrored),
    wrong(
        "--once",
        f"already running (pid {os.getpid()}) since ",
        "it mirrors changes automatically; to compare the folder now: kbsync rescan",
        before=running,
        code=4,
    ),
    wrong("status", "{state}/state.db was written by a newer kbsync; use that version", before=newer),
    wrong(
        "status",
        "{state}/state.db is damaged (",
        "to set it aside and start with an empty one, run: kbsync --once",
        before=damaged,
        code=4,
    ),
    wrong("--once --config no.yaml", "no.yaml: cannot be read (no such file or directory); check the path"),
    wrong("--once", "{config}:1: ", before=described("mirrors: [")),
    wrong("--once", "{config}: ", "begin with `mirrors:`", before=described("")),
    wrong(
        "--once",
        "{config}:1: mirrors[0].settel: unknown key",
        "did you mean settle?",
        before=described('mirrors: [{{name: a, folder: "{docs}", settel: 1s}}]'),
    ),
    wrong(
        "--once",
        "{config}:1: mirrors[0].folder: {root}/docs/a.md is a file; choose a folder",
        before=described('mirrors: [{{name: a, folder: "{docs}/a.md"}}]'),
    ),
)


def paths_of(sandbox: Sandbox) -> dict[str, Path]:
    return {"root": sandbox.root, "config": sandbox.config, "state": sandbox.state}


@enumerated()
@proves("to set it aside and start with an empty one, run: {}")
@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.words)
def test_refusal_says_what_is_impossible_and_what_to_do(case: Wrong, sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    with contextlib.ExitStack() as stack:
        case.before(sandbox, stack)
        result = sandbox.run(*shlex.split(case.words))
        quiet = sandbox.run(*shlex.split(case.words), "-q")
    assert (result.code, result.out) == (case.code, "")
    assert "Traceback" not in result.err
    is_passing_by = case.before is running
    assert all(line.startswith("kbsync: ") for line in result.err.splitlines()) or is_passing_by
    assert [words for words in case.messages if words.format(**paths_of(sandbox)) not in result.err] == []
    assert (quiet.code, quiet.err) == (result.code, "" if is_passing_by else result.err)
    _, _, fix = result.err.strip().partition(" run: ")
    assert not fix or paste(sandbox, fix).code == 0


@long
@pytest.mark.parametrize("words", ["status", "explain a.md", "add ."])
def test_deleted_working_directory_is_named(words: str, sandbox: Sandbox) -> None:
    folder, module = sandbox.add_folder("gone"), "tests.without_system_config"
    script = f'rmdir "$PWD" && exec {shlex.quote(sys.executable)} -m {module} {words}'
    environ = sandbox.environ({})
    result = subprocess.run(
        ["sh", "-c", script], check=False, cwd=folder, env=environ, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "kbsync: the working directory was deleted; change to another one\n"
