"""What a person sees of a daemon at a terminal: what is watched, and a short line for each change.

Made of the same events as the log, which programs read, and who asks for it (--log-format, --log-level).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

from kbsync import logs
from kbsync.cli.paper import counted

MARKS = {
    "document.ready": "+",
    "document.refreshed": "~",
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
        return f"{counted(count, 'document')} would be deleted; they stay until you say yes"
    return f"{counted(count, 'document')} would be indexed anew; they stay as they are until you say yes"


def _trouble(fields: logs.Fields) -> str:
    """Of whom, what, and what to do; the traceback of an error of ours below it."""
    said = [str(fields[name]) for name in ("reason", "detail") if fields.get(name)]
    parts = [str(fields["mirror"])] if fields.get("mirror") else []
    parts += said or [str(fields["event"]).replace(".", " ")]
    cure = f"; cure: {fields['cure']}" if fields.get("cure") else ""
    trace = f"\n  {fields['exception']}" if fields.get("exception") else ""
    return f"{': '.join(parts)}{cure}{trace}"
