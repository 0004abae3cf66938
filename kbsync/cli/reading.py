"""What the commands that look at folder, state and target have in common: targets for reading, and logs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kbsync import logs
from kbsync.cli.context import unmade
from kbsync.cli.exit_codes import concerning
from kbsync.cli.options import Choices
from kbsync.cli.output import tell_through
from kbsync.config.model import MirrorConfig
from kbsync.contract.target import Target
from kbsync.engine.plan import CommandContext
from kbsync.installation import Installation
from kbsync.state import lock


def set_up_logs(choices: Choices) -> None:
    """Only what is wrong is logged by a command that looks. What it says after JSON is JSON, too."""
    level = choices.log_level or ("error" if choices.quiet else "warning")
    is_prose = logs.style_of(choices.log_format, sys.stderr) != "json"

    def has_begun(_fields: logs.Fields) -> bool:
        tell_through(None if is_prose else told_as_log)
        return True

    logs.configure(style=choices.log_format, level=level, wanted=has_begun)


def told_as_log(text: str, error: BaseException | None = None) -> None:
    """A word to people, as a line of the log."""
    logs.say("error", "command.said", detail=text, exc_info=error)


def site_of(installation: Installation) -> CommandContext:
    """The installation as the views of the engine take it."""
    names = [mirror.name for mirror in installation.config.mirrors]
    return CommandContext(names, installation.cure, lock.is_held(installation.state_dir))


@asynccontextmanager
async def reading(installation: Installation, mirror: MirrorConfig) -> AsyncIterator[Target]:
    """The mirror's target, opened for reading; where it was not made yet, one that stands in for it.

    What goes wrong within names the mirror.
    """
    with concerning(mirror.name):
        with unmade(installation):
            target = await asyncio.to_thread(installation.target_or_stand_in, mirror)
        try:
            yield target
        finally:
            await target.aclose()
