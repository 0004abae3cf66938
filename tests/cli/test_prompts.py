"""Tests messages about incomplete command lines and about files that kbsync may not read."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import click
import pytest

from kbsync.cli.main import kbsync
from kbsync.cli.prompts import interruptible
from kbsync_standin.zhipu import HOME_ID
from tests.cli.sandbox import Sandbox
from tests.cli.terminal import Begin
from tests.cli.zhipu import ZhipuSandbox
from tests.share import enumerated, long


def commands(above: click.Command = kbsync, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command of the tree with its words."""
    yield names, above
    if isinstance(above, click.Group):
        context = click.Context(above)
        for name in above.list_commands(context):
            command = above.get_command(context, name)
            assert command is not None
            yield from commands(command, *names, name)


GROUPS = {
    words: command
    for words, command in commands()
    if isinstance(command, click.Group) and command is not kbsync
}


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
@pytest.mark.parametrize("arguments", [(), ("--quiet",)], ids=["alone", "with an option"])
def test_group_without_a_subcommand_says_what_to_add(
    sandbox: Sandbox, words: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    result = sandbox.run(*words, *arguments)
    names = ", ".join(GROUPS[words].list_commands(click.Context(GROUPS[words])))
    called = " ".join(("kbsync", *words))
    assert (result.code, result.out) == (2, "")
    assert result.err == f"kbsync: choose one of: {names}; see: {called} --help\n"


@pytest.mark.parametrize(("words", "command"), list(commands()), ids=lambda value: str(value)[:40])
def test_unreadable_path_is_never_refused(words: tuple[str, ...], command: click.Command) -> None:
    """click would check that before the command runs, which has a better message; root can always read."""
    kinds = [param.type for param in command.params if isinstance(param.type, click.Path)]
    assert [kind for kind in kinds if kind.readable] == []
    assert kinds or words != ("explain",)


# -- answers at a terminal -------------------------------------------------------------------------------


EOF = "\x04"
ENDS = (
    ("forget handbook", "Forget handbook? [y/N]: ", "n\n", 0, "nothing was changed"),
    ("forget handbook", "Forget handbook? [y/N]: ", "\n", 0, "nothing was changed"),
    ("forget handbook", "Forget handbook? [y/N]: ", EOF, 0, "nothing was changed"),
    ("forget handbook", "Forget handbook? [y/N]: ", "", 130, ""),
    ("init", "Folder to mirror [.]: ", EOF, 2, "end of input; nothing was changed"),
    ("init", "Folder to mirror [.]: ", "", 130, ""),
    (f"kb delete {HOME_ID}", "Type its name, ", EOF, 2, "end of input; nothing was changed"),
    (f"kb delete {HOME_ID}", "Type its name, ", "", 130, ""),
)


@long
@enumerated()
@pytest.mark.parametrize(("words", "question", "typed", "code", "message"), ENDS)
def test_nothing_is_done_without_confirmation(
    zhipu: ZhipuSandbox, terminal: Begin, words: str, question: str, typed: str, code: int, message: str
) -> None:
    """An interrupt (nothing typed) has the code of one; a no isn't a failure."""
    zhipu.mirror({"a.md": "alpha"})
    if words == "init":
        zhipu.config.rename(zhipu.root / "kept.yaml")
    session = terminal(zhipu, *words.split())
    session.until(question)
    if typed:
        session.type(typed)
    else:
        session.process.send_signal(signal.SIGINT)
    assert (session.end(), message in session.output) == (code, True)
    assert session.output.endswith("\n"), session.output
    if words == "init":
        assert not zhipu.config.exists()
        (zhipu.root / "kept.yaml").rename(zhipu.config)
    assert zhipu.status()["documents"]["ready"] == len(zhipu.service.ours()) == 1


def test_interrupt_that_had_no_effect_is_sent_again() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        with contextlib.suppress(KeyboardInterrupt):  # as `input` does when it flushes
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        time.sleep(30)
