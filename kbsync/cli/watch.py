"""`kbsync` alone: the daemon."""

from __future__ import annotations

import asyncio

import structlog

from kbsync import logs
from kbsync.assembly import Installation
from kbsync.cli.choosing import again, choose, prepare
from kbsync.cli.exits import Code
from kbsync.cli.options import Choices
from kbsync.daemon import Daemon, hard_end


def watch(choices: Choices) -> int:
    """Watch every mirror until told to stop; each SIGHUP reads the config again."""
    installation = choose(choices)
    prepare(installation)
    level = choices.log_level or ("warning" if choices.quiet else "info")
    logs.configure(style=choices.log_format, level=level)
    _introduce(installation)
    with hard_end() as arm:
        asyncio.run(Daemon(installation, lambda: again(installation), arm).run())
    return Code.MIRRORED


def _introduce(installation: Installation) -> None:
    """Name what is in use, and what the config asks for that is not served."""
    log = structlog.get_logger("kbsync")
    config = installation.config
    source = {"config": str(config.path)} if config.path else {"folder": str(config.mirrors[0].folder)}
    log.info("daemon.started", **source, state_dir=str(installation.state_dir))
    unserved = [key for key, value in (("http", config.http), ("notify", config.notify)) if value is not None]
    if unserved:
        what = " and ".join(f"{key}:" for key in unserved)
        log.warning("config.not_served", keys=unserved, detail=f"{what} come with a later version of kbsync")
