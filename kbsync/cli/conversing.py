"""`kbsync ask -i`: question after question, each told with what was said before. Nothing of it is kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field

from kbsync.cli.choosing import choose
from kbsync.cli.counter import one_to_ask, opened, served
from kbsync.cli.exits import Code, OfMirror
from kbsync.cli.inquiry import Inquiry, Reply, Terms
from kbsync.cli.options import Choices
from kbsync.cli.paper import Paper, tell
from kbsync.cli.prompting import questions
from kbsync.cli.reply import print_reply, to_json
from kbsync.config.model import MirrorConfig
from kbsync.contract.answering import Turn
from kbsync.errors import Halted, NotOffered, UsageError

STOPPED = "it was stopped"


def converse(choices: Choices, first: str, terms: Terms, *, as_json: bool) -> int:
    """Until the questions end. Raises what no other question would change."""
    installation = choose(choices, here=True)
    mirror = one_to_ask(installation, first or "-i")
    paper = Paper()
    with asyncio.Runner() as runner, _closing(runner) as stack:
        target = runner.run(stack.enter_async_context(opened(installation, mirror)))
        with served(mirror):
            inquiry = Inquiry(installation, mirror, target, terms, first or "-i")
        conversation = Conversation(runner, mirror, inquiry, paper, as_json)
        with contextlib.suppress(KeyboardInterrupt):
            for question in questions(first, is_seen=not as_json):
                conversation.ask(question)
    return Code.MIRRORED


@contextmanager
def _closing(runner: asyncio.Runner) -> Iterator[AsyncExitStack]:
    stack = AsyncExitStack()
    try:
        yield stack
    finally:
        runner.run(stack.aclose())


@dataclass(slots=True)
class Conversation:
    """What was said so far. Each question is a run of its own, which an interrupt ends."""

    runner: asyncio.Runner
    mirror: MirrorConfig
    inquiry: Inquiry
    paper: Paper
    as_json: bool
    turns: list[Turn] = field(default_factory=list)

    def ask(self, question: str) -> None:
        """Show the answer; only a whole one counts for what comes. Raises what ends the conversation."""
        try:
            with served(self.mirror):
                asked = self.inquiry.ask(question, self.turns, paper=None if self.as_json else self.paper)
                reply = self.runner.run(asked)
        except KeyboardInterrupt:
            reply = Reply(self.mirror.name, question, error=STOPPED)
        except OfMirror as error:
            if isinstance(error.__cause__, Halted | NotOffered | UsageError):
                raise
            tell(str(error))
            reply = Reply(self.mirror.name, question, error=str(error))
        if reply.text.strip():
            self.turns.append(Turn(question, reply.text))
        self._show(reply)

    def _show(self, reply: Reply) -> None:
        """At once, though stdout may be a pipe."""
        if self.as_json:
            self.paper.json(to_json(reply), on_one_line=True)
        elif not reply.error:
            print_reply(self.paper, reply)
        self.paper.show("" if self.as_json else "\n")
