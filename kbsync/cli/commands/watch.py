"""What a person sees of a daemon at a terminal: what is watched, and a short line for each change.

Made of the same events as the log, which programs read, and who asks for it (--log-format, --log-level).

`kbsync` alone: the daemon.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import structlog

from kbsync import logs
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices
from kbsync.cli.output import counted, tell_through
from kbsync.signals import ENDING, HardEnd, Signals

if TYPE_CHECKING:
    from kbsync.config.model import Config
    from kbsync.daemon import Daemon


MARKS = {
    "document.ready": "+",
    "document.renamed": ">",
    "document.deleted": "-",
}
"""As `plan` marks them; a replaced document, which is an event of the first kind, has `~`."""

BAD = ("warning", "error", "exception", "critical")


class Foreground:
    """Makes lines of events, or drops them. `mirrors`: how many there are; one needs no name."""

    def __init__(self, mirrors: int, local_time: Callable[[], time.struct_time] = time.localtime) -> None:
        self._mirrors, self._local_time = mirrors, local_time

    def __call__(self, _logger: Any, method: str, fields: logs.Fields) -> str:
        """The line for an event. Raises `structlog.DropEvent` for one that tells a person nothing."""
        words = self._words(method, fields)
        if words is None:
            raise structlog.DropEvent
        return words

    def _words(self, method: str, fields: logs.Fields) -> str | None:
        event = fields["event"]
        match event:
            case "daemon.started":
                return f"using {fields.get('config') or fields.get('folder')}"
            case "daemon.watching":
                return _watching(fields)
            case "daemon.stopped":
                return "stopped"
            case "config.read":
                return self._at(f"the config was read again: {counted(fields['mirrors'], 'mirror')}")
            case "mirror.resumed":
                return self._at(f"{fields['mirror']} goes on")
            case "watch.started" | "watch.changed" if fields.get("cure"):
                return self._at(f"! {fields['mirror']}: {fields.get('why', '')}; cure: {fields['cure']}")
            case "deletions.held" | "recipe.held":
                return self._at(f"! {fields['mirror']}: {_held(fields)}; cure: {fields['cure']}")
            case "document.failed":
                return self._document("!", fields, f": {fields.get('reason') or 'it failed'}")
            case "document.skipped":
                return self._document("·", fields, f": skipped, {fields.get('reason')}")
            case _ if event in MARKS:
                seconds = fields.get("seconds") or 0.0
                mark = "~" if fields.get("replaced") else MARKS[event]
                return self._document(mark, fields, f" {seconds:.1f} s" if seconds else "")
        return self._at(f"! {_trouble(fields)}") if method in BAD else None

    def _document(self, mark: str, fields: logs.Fields, rest: str) -> str:
        mirror = f"{fields['mirror']}: " if self._mirrors > 1 else ""
        return self._at(f"{mark} {mirror}{fields['path']}{rest}")

    def _at(self, words: str) -> str:
        return f"{time.strftime('%H:%M:%S', self._local_time())} {words}"


def _watching(fields: logs.Fields) -> str:
    what = f"watching {counted(fields['folders'], 'folder')}, {counted(fields['documents'], 'document')}"
    page = [f"http://{fields['listen']}"] if fields.get("listen") else []
    return "; ".join([what, *page, "Ctrl-C ends it"])


def _held(fields: logs.Fields) -> str:
    count = fields.get("count", 0)
    if fields["event"] == "deletions.held":
        return f"{counted(count, 'document')} would be deleted; they stay until you approve"
    return f"{counted(count, 'document')} would be indexed again; they stay as they are until you say yes"


def _trouble(fields: logs.Fields) -> str:
    """Of whom, what, and what to do; the traceback of an error of ours below it."""
    said = [str(fields[name]) for name in ("reason", "detail") if fields.get(name)]
    parts = [str(fields["mirror"])] if fields.get("mirror") else []
    parts += said or [str(fields["event"]).replace(".", " ")]
    cure = f"; cure: {fields['cure']}" if fields.get("cure") else ""
    trace = f"\n  {fields['exception']}" if fields.get("exception") else ""
    return f"{': '.join(parts)}{cure}{trace}"


def watch(choices: Choices) -> int:
    """Watch every mirror until told to stop; each SIGHUP reads the config again."""
    with HardEnd() as end:

        def at_once(number: int) -> None:
            if number in ENDING:
                end.arm(Code.MIRRORED)

        with Signals((*ENDING, signal.SIGHUP), at_once) as signals:
            _watch(choices, signals, end)
    return Code.MIRRORED


def _watch(choices: Choices, signals: Signals, end: HardEnd) -> None:
    from kbsync.cli.context import (
        again,
        choose,
        prepare,  # signals are heard while all this is loaded
    )
    from kbsync.cli.problems_log import told_as_log
    from kbsync.daemon import Daemon
    from kbsync.systemd import ServiceManager

    installation = choose(choices)
    prepare(installation)

    def heed(config: Config) -> None:
        level, renderer = level_of(choices, config), None
        if logs.is_for_a_person(choices.log_format, choices.log_level, config.log_level):
            renderer = Foreground(len(config.mirrors))
        logs.configure(style=choices.log_format, level=level, renderer=renderer)
        tell_through(None if renderer else told_as_log)

    heed(installation.config)
    with closing(ServiceManager(os.environ)) as manager:
        if manager.watchdog is not None:
            faulthandler.enable()  # a watchdog ends what hangs with SIGABRT: say where it hung
        daemon = Daemon(installation, lambda: again(installation), signals, heed, manager)
        asyncio.run(_until_told(daemon, end))


async def _until_told(daemon: Daemon, end: HardEnd) -> None:
    await daemon.run()
    end.now()


def level_of(choices: Choices, config: Config) -> str:
    """From where the daemon's log begins: the command line goes before the config."""
    return choices.log_level or ("warning" if choices.quiet else config.log_level or "info")
