"""Keeps the current config and the open targets for assistants.

A mirror whose folder or service hangs can't delay responses about other mirrors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from kbsync.cli.context import reader, reload
from kbsync.config.model import Config, MirrorConfig
from kbsync.config.reader import with_secrets_of
from kbsync.contract.target import Target
from kbsync.engine.status import iso
from kbsync.errors import KbsyncError, Unavailable, UsageError
from kbsync.installation import Installation
from kbsync.source.roots import MAX_CHECK_SECONDS
from kbsync.source.watch import run_detached
from kbsync.state.read_only import SnapshotReader
from kbsync.threads import in_mirror_threads

T = TypeVar("T")

OPEN_SECONDS = 10.0
"""Maximum number of seconds that a call waits for a knowledge base to open.

Opening continues in the background, so a later call can use the knowledge base.
"""

READ_SECONDS = 5.0
"""Maximum number of seconds for reading a config: resolving its paths may hang on a network mount."""


class OpenInstallation:
    """An installation whose targets stay open and whose config may change. See `OpenMirrors`.

    Use it from a single event loop.
    """

    write_time = staticmethod(iso)

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.will_mirror = False
        self.obstacle = ""
        self._targets: dict[str, tuple[MirrorConfig, Target]] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._reading: asyncio.Task[Installation] | None = None

    def switch_to(self, config: Config) -> None:
        """Use this config from now on."""
        self.installation = replace(self.installation, config=config)

    async def config_now(self) -> Config:
        """Reload the config and its key files. Raises `KbsyncError` or `OSError`."""
        if self._reading is None or self._reading.done():
            before = self.installation
            self._reading = asyncio.create_task(run_detached(lambda: reload(before)))
        try:
            async with asyncio.timeout(READ_SECONDS):
                fresh = await asyncio.shield(self._reading)
        except TimeoutError as error:
            raise UsageError(
                f"{self.installation.config.path}: not read within {READ_SECONDS:g} s"
            ) from error
        if fresh.state_dir != self.installation.state_dir:
            raise UsageError("state_dir cannot be changed while kbsync is running; restart kbsync")
        _ = fresh.mirrors  # raises if a requested mirror is no longer in it
        return fresh.config

    async def reload_secrets(self, names: Collection[str]) -> bool:
        """Reload the keys of these mirrors after a service refused a key. Return False if the keys are
        unchanged.
        """
        try:
            new = with_secrets_of(self.installation.config, await self.config_now(), names)
        except (KbsyncError, OSError):
            return False
        is_new = new != self.installation.config
        self.switch_to(new)
        return is_new

    @property
    def read(self) -> SnapshotReader:
        """Read the state."""
        return reader(self.installation)

    async def aclose(self) -> None:
        """Close every target."""
        for opening in self._opening.values():
            opening.cancel()
        targets, self._targets = self._targets, {}
        for _, target in targets.values():
            await target.aclose()

    @asynccontextmanager
    async def target(self, mirror: MirrorConfig) -> AsyncIterator[Target]:
        """Yield the mirror's target, which stays open. Raises `Unavailable` if opening it hangs."""
        while (entry := self._targets.get(mirror.name)) is None or entry[0] != mirror:
            opening = self._opening.get(mirror.name)
            if opening is None or opening.done():
                opening = self._opening[mirror.name] = asyncio.create_task(self._open(mirror))
                # Ignore errors of a target after its caller stopped waiting.
                opening.add_done_callback(lambda task: task.cancelled() or task.exception())
            try:
                async with asyncio.timeout(OPEN_SECONDS):
                    await asyncio.shield(opening)
            except TimeoutError as error:
                raise Unavailable(f"opening the knowledge base timed out ({OPEN_SECONDS:g} s)") from error
        yield entry[1]

    async def _open(self, mirror: MirrorConfig) -> None:
        opening = asyncio.to_thread(self.installation.target, mirror, read_only=True)
        target, before = await in_mirror_threads(mirror.name, opening), self._targets.get(mirror.name)
        self._targets[mirror.name] = mirror, target
        if before is not None:
            await before[1].aclose()


async def run_each(jobs: Mapping[str, Awaitable[T]], seconds: float) -> dict[str, T]:
    """Run the jobs of several mirrors concurrently. Return the results of the jobs that finish in time."""
    tasks = {name: asyncio.ensure_future(in_mirror_threads(name, job)) for name, job in jobs.items()}
    try:
        if tasks:
            await asyncio.wait(tasks.values(), timeout=seconds)
        return {name: task.result() for name, task in tasks.items() if task.done()}
    finally:
        for task in tasks.values():
            task.cancel()


async def query_folders(chosen: Installation, query: Callable[[Installation], list[T]]) -> list[T]:
    """Run `query` on each mirror except those whose folder hangs, and return the results.

    Raises `Unavailable` if a folder hangs and no other mirror has a result.
    """
    names = [mirror.name for mirror in chosen.mirrors]
    queries = {name: asyncio.to_thread(query, chosen.narrow(name)) for name in names}
    results = await run_each(queries, MAX_CHECK_SECONDS)
    values = [value for result in results.values() for value in result]
    silent = [name for name in names if name not in results]
    if silent and not values:
        raise Unavailable(f"{', '.join(silent)}: the folder isn't responding; try again later")
    return values
