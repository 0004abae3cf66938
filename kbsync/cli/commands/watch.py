"""`kbsync` without a command: runs the daemon. On a terminal, it turns log events into a short line for each
change.

Without a terminal, or with --log-format or --log-level, it prints the log itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import time
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from kbsync import logs
from kbsync.cli.context import choose, prepare, reload, unless_running
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices
from kbsync.cli.output import route_messages
from kbsync.core.text import format_count
from kbsync.engine.status import clock_time, halt_words
from kbsync.signals import ENDING, HardEnd, Signals, find_terminal, hangup_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kbsync.config.model import Config


MARKS = {"document.ready": "+", "document.renamed": ">", "document.deleted": "-"}
"""The mark for each event, as in `plan`.

`document.ready` gets `~` if the document replaced an older version.
"""

BAD = ("warning", "error", "exception", "critical")


class Foreground:
    """Turns events into lines, or drops them.

    `mirrors`: the number of mirrors. If there is only one, lines don't mention its name.
    """

    def __init__(self, mirrors: int) -> None:
        self._mirrors = mirrors

    def __call__(self, _logger: Any, method: str, fields: logs.Fields) -> str:
        """Return the line for an event. Raises `structlog.DropEvent` if the event needs no line."""
        event = fields["event"]
        match event:
            case "daemon.started":
                return f"using {fields.get('config') or fields.get('folder')}"
            case "daemon.watching":
                folders = format_count(fields["folders"], "folder")
                documents = format_count(fields["documents"], "document")
                page = f"; http://{fields['listen']}" if fields.get("listen") else ""
                return f"watching {folders}, {documents}{page}; press Ctrl-C to stop"
            case "daemon.stopped":
                return "stopped"
            case "config.read":
                return self._at(f"config reloaded: {format_count(fields['mirrors'], 'mirror')}")
            case "mirror.paused":
                until, why = "", " for quiet hours" if fields.get("reason") == "quiet-hours" else ""
                if fields.get("until"):
                    until = f" until {clock_time(datetime.fromisoformat(fields['until']).timestamp())}"
                return self._at(f"{fields['mirror']} paused{why}{until}")
            case "mirror.resumed":
                return self._at(f"{fields['mirror']} resumed")
            case "watch.started" | "watch.changed" if fields.get("cure"):
                return self._at(f"! {fields['mirror']}: {fields.get('why', '')}; fix: {fields['cure']}")
            case "deletions.held" | "recipe.held":
                documents_text = format_count(fields.get("count", 0), "document")
                fate = "would be reindexed; they stay unchanged until you approve the reindexing"
                if event == "deletions.held":
                    fate = "would be deleted; they stay until you approve the deletion"
                return self._at(f"! {fields['mirror']}: {documents_text} {fate}; fix: {fields['cure']}")
            case "document.failed":
                return self._document("!", fields, f": {fields.get('reason') or 'it failed'}")
            case "document.skipped":
                return self._document("·", fields, f": skipped, {fields.get('reason')}")
            case _ if event in MARKS:
                seconds = fields.get("seconds") or 0.0
                mark = "~" if fields.get("replaced") else MARKS[event]
                return self._document(mark, fields, f" {seconds:.1f} s" if seconds else "")
        if method not in BAD:
            raise structlog.DropEvent
        return self._at(f"! {_problem_line(fields)}")

    def _document(self, mark: str, fields: logs.Fields, rest: str) -> str:
        mirror = f"{fields['mirror']}: " if self._mirrors > 1 else ""
        return self._at(f"{mark} {mirror}{fields['path']}{rest}")

    def _at(self, words: str) -> str:
        return f"{time.strftime('%H:%M:%S')} {words}"


def _problem_line(fields: logs.Fields) -> str:
    """Return the mirror, what happened, and what to do. For a bug, add the traceback."""
    reasons = [str(fields[name]) for name in ("reason", "detail") if fields.get(name)]
    parts = [str(fields["mirror"])] if fields.get("mirror") else []
    if fields["event"] == "mirror.halted" and reasons:
        reasons[0] = halt_words(*reasons[:2])
    parts += reasons or [str(fields["event"]).replace(".", " ")]
    fix = f"; fix: {fields['cure']}" if fields.get("cure") else ""
    trace = f"\n  {fields['exception']}" if fields.get("exception") else ""
    return f"{': '.join(parts)}{fix}{trace}"


def watch(choices: Choices) -> int:
    """Watch every mirror until stopped.

    SIGHUP makes a service reload the config, and ends a kbsync that was started from a terminal.
    """
    terminal = find_terminal()
    ending = ENDING if terminal is None else (*ENDING, signal.SIGHUP)
    with HardEnd() as end:

        def at_once(number: int) -> None:
            if number in ending:
                end.arm(Code.MIRRORED)

        with (
            Signals((*ENDING, signal.SIGHUP), at_once) as signals,
            contextlib.nullcontext() if terminal is None else hangup_with(terminal),
        ):
            _watch(choices, signals, end, ending)
    return Code.MIRRORED


def _watch(choices: Choices, signals: Signals, end: HardEnd, ending: Sequence[int]) -> None:
    # Import only after setting the signal handlers, so that no signal is lost during the import.
    from kbsync.cli.commands.mcp.command import assistant_app
    from kbsync.cli.report import log_error
    from kbsync.daemon import Daemon
    from kbsync.systemd import ServiceManager
    from kbsync.upgrade import guard_imports

    guard_imports()
    installation = choose(choices)
    prepare(installation, choices)

    def configure_logs(config: Config) -> None:
        # The command line overrides the config.
        level = choices.log_level or ("warning" if choices.quiet else config.log_level or "info")
        renderer = None
        if logs.is_for_a_person(choices.log_format, choices.log_level, config.log_level):
            renderer = Foreground(len(config.mirrors))
        logs.configure(style=choices.log_format, level=level, renderer=renderer)
        route_messages(None if renderer else log_error)

    configure_logs(installation.config)
    with closing(ServiceManager(os.environ)) as manager:
        if manager.watchdog is not None:
            # A watchdog kills a hung process with SIGABRT; show where it hung.
            faulthandler.enable()
        daemon = Daemon(
            installation,
            reload,
            signals,
            configure_logs,
            manager,
            ending=ending,
            assistants=assistant_app,
            prepare=lambda current: prepare(current, choices),
        )

        async def run() -> None:
            await daemon.run()
            end.now()

        with unless_running(installation, f"to see its work: {installation.command_line('status')}"):
            asyncio.run(run())
