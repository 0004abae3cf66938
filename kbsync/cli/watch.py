"""`kbsync` alone: the daemon."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
from contextlib import closing
from typing import TYPE_CHECKING

from kbsync import logs
from kbsync.cli.exits import Code
from kbsync.cli.options import Choices
from kbsync.cli.paper import speak
from kbsync.sdnotify import Notifier
from kbsync.signals import ENDING, HardEnd, Signals, hard_end

if TYPE_CHECKING:
    from kbsync.config.model import Config
    from kbsync.daemon import Daemon


def watch(choices: Choices) -> int:
    """Watch every mirror until told to stop; each SIGHUP reads the config again."""
    with hard_end() as end:

        def at_once(number: int) -> None:
            if number in ENDING:
                end.arm(Code.MIRRORED)

        with Signals((*ENDING, signal.SIGHUP), at_once) as signals:
            _watch(choices, signals, end)
    return Code.MIRRORED


def _watch(choices: Choices, signals: Signals, end: HardEnd) -> None:
    from kbsync.cli.choosing import again, choose, prepare  # signals are heard while all this is loaded
    from kbsync.cli.foreground import Foreground
    from kbsync.cli.reported import told_as_log
    from kbsync.daemon import Daemon

    installation = choose(choices)
    prepare(installation)

    def heed(config: Config) -> None:
        level, renderer = level_of(choices, config), None
        if logs.is_for_a_person(choices.log_format, choices.log_level, config.log_level):
            renderer = Foreground(len(config.mirrors))
        logs.configure(style=choices.log_format, level=level, renderer=renderer)
        speak(None if renderer else told_as_log)

    heed(installation.config)
    with closing(Notifier(os.environ)) as notifier:
        if notifier.watchdog is not None:
            faulthandler.enable()  # a watchdog ends what hangs with SIGABRT: say where it hung
        daemon = Daemon(installation, lambda: again(installation), signals, heed, notifier)
        asyncio.run(_until_told(daemon, end))


async def _until_told(daemon: Daemon, end: HardEnd) -> None:
    await daemon.run()
    end.now()


def level_of(choices: Choices, config: Config) -> str:
    """From where the daemon's log begins: the command line goes before the config."""
    return choices.log_level or ("warning" if choices.quiet else config.log_level or "info")
