"""What the door says of a command line that says too little, and of files that nobody lets it read."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kbsync.cli.main import kbsync
from kbsync.cli.prompts import interruptible
from kbsync_standin.zhipu import HOME_ID
from tests.cli.place import Place
from tests.cli.terminal import Begin
from tests.cli.vendor import zhipu_place


def commands(above: click.Command = kbsync, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command of the tree with the words that lead to it."""
    yield names, above
    if isinstance(above, click.Group):
        context = click.Context(above)
        for name in above.list_commands(context):
            command = above.get_command(context, name)
            assert command is not None
            yield from commands(command, *names, name)


GROUPS = {words: one for words, one in commands() if isinstance(one, click.Group) and one is not kbsync}


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
@pytest.mark.parametrize("more", [(), ("--quiet",)], ids=["alone", "with an option"])
def test_a_group_alone_says_in_a_sentence_what_to_name(
    place: Place, words: tuple[str, ...], more: tuple[str, ...]
) -> None:
    ran = place.run(*words, *more)
    names = ", ".join(GROUPS[words].list_commands(click.Context(GROUPS[words])))
    called = " ".join(("kbsync", *words))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"kbsync: choose one of: {names}; see: {called} --help\n"


@pytest.mark.parametrize(("words", "command"), list(commands()), ids=lambda value: str(value)[:40])
def test_no_command_refuses_a_path_because_it_cannot_be_read(
    words: tuple[str, ...], command: click.Command
) -> None:
    """click looks for that right in front of the command, which has better to say; root has it always."""
    kinds = [each.type for each in command.params if isinstance(each.type, click.Path)]
    assert [kind for kind in kinds if kind.readable] == []
    assert kinds or words != ("explain",)


# -- answers at a terminal -------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"], ids=["no", "enter", "end of input"])
def test_a_mirror_is_not_forgotten_without_a_yes_and_that_is_no_failure(
    place: Place, terminal: Begin, answer: str
) -> None:
    place.write("a.md", "alpha")
    place.configure()
    assert place.run("--once").code == 0
    asked = terminal(place, "forget", "handbook")
    asked.until("Forget handbook? [y/N]: ")
    asked.type(answer)
    assert asked.end() == 0
    assert "kbsync: nothing was forgotten" in asked.seen
    assert place.run("status", "--json").json["mirrors"][0]["documents"]["ready"] == 1


def test_init_whose_input_ends_writes_nothing_and_says_so(place: Place, terminal: Begin) -> None:
    asked = terminal(place, "init")
    asked.until("Folder to mirror [.]: ")
    asked.type("\x04")
    assert asked.end() == 2
    assert "kbsync: nothing was written: the input ended" in asked.seen
    assert not place.config.exists()


@pytest.mark.parametrize("words", [("forget", "handbook"), ("init",)], ids=" ".join)
def test_an_interrupt_at_a_question_has_the_code_of_one(
    place: Place, terminal: Begin, words: tuple[str, ...]
) -> None:
    if words[0] == "forget":
        place.configure()
        assert place.run("--once").code == 0
    asked = terminal(place, *words)
    asked.until("]: ")
    asked.process.send_signal(signal.SIGINT)
    assert asked.end() == 130


def test_an_interrupt_that_ended_nothing_is_sent_again() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        with contextlib.suppress(KeyboardInterrupt):  # as `input` does where it flushes
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        time.sleep(30)


def test_a_base_is_not_deleted_when_the_input_ends(tmp_path: Path, terminal: Begin) -> None:
    with zhipu_place(tmp_path) as zhipu:
        asked = terminal(zhipu, "kb", "delete", HOME_ID)
        asked.until("Type its name, ")
        asked.type("\x04")
        assert asked.end() == 2
        assert "the input ended; nothing was changed" in asked.seen
        asked = terminal(zhipu, "kb", "delete", HOME_ID)
        asked.until("Type its name, ")
        asked.process.send_signal(signal.SIGINT)
        assert asked.end() == 130
        assert zhipu.run("kb", "list", "--json").json["knowledge_bases"]
