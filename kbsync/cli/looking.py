"""What the commands that look at folder, state and target have in common: targets for reading, and logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kbsync import logs
from kbsync.cli.choosing import unmade
from kbsync.cli.exits import concerning
from kbsync.cli.options import Choices
from kbsync.config.model import MirrorConfig
from kbsync.contract.mirroring import Target
from kbsync.engine.plan import Site
from kbsync.installation import Installation
from kbsync.state import lock


def set_up_logs(choices: Choices) -> None:
    """Only what is wrong is logged by a command that looks."""
    level = choices.log_level or ("error" if choices.quiet else "warning")
    logs.configure(style=choices.log_format, level=level)


def site_of(installation: Installation) -> Site:
    """The installation as the views of the engine take it."""
    names = [mirror.name for mirror in installation.config.mirrors]
    return Site(names, installation.cure, lock.is_held(installation.state_dir))


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
