"""What the commands that look at folder, state and target have in common: targets for reading, and logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kbsync import logs
from kbsync.assembly import Installation
from kbsync.cli.options import Choices
from kbsync.config.model import LocalTargetConfig, MirrorConfig
from kbsync.contract import Base, Listed, Target
from kbsync.core.model import Limits
from kbsync.engine.plan import Site
from kbsync.errors import UsageError
from kbsync.targets.local import formats
from kbsync.targets.local.encoder import Encoder
from kbsync.targets.local.target import BATCH, CONCURRENCY, LocalTarget


class Unmade(LocalTarget):
    """The embedded knowledge base that the first pass will make: empty, and not on the disk yet."""

    def __init__(self, config: LocalTargetConfig) -> None:
        self._folder = Path()
        self._encoder = Encoder(config.embedding.type, config.embedding.path)
        self._limits = Limits(
            extensions=formats.EXTENSIONS,
            names=formats.NAMES,
            max_bytes=config.max_bytes,
            batch=BATCH,
            concurrency=CONCURRENCY,
            list_lag=0.0,
            marks=True,
            embedded=True,
        )

    async def base(self) -> Base:
        """One that no state knows."""
        return Base("", 0)

    async def list(self) -> AsyncIterator[Listed]:
        """Nothing."""
        for row in list[Listed]():
            yield row

    async def aclose(self) -> None:
        """There is nothing to close."""


def set_up_logs(choices: Choices) -> None:
    """Only what is wrong is logged by a command that looks."""
    level = choices.log_level or ("error" if choices.quiet else "warning")
    logs.configure(style=choices.log_format, level=level)


def site_of(installation: Installation) -> Site:
    """The installation as the views of the engine take it."""
    return Site([mirror.name for mirror in installation.config.mirrors], installation.cure)


@asynccontextmanager
async def reading(installation: Installation, mirror: MirrorConfig) -> AsyncIterator[Target]:
    """The mirror's target, opened for reading; where it was not made yet, one that stands in for it."""
    try:
        target = await asyncio.to_thread(installation.target, mirror, read_only=True)
    except UsageError:
        target = Unmade(mirror.target)
    try:
        yield target
    finally:
        await target.aclose()
