"""`kbsync open`: the file of a hit of the last search, in the program it is opened with."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from kbsync.cli.exit_codes import Code
from kbsync.cli.last_search import has_place, recall
from kbsync.cli.options import Choices, examples, shared_options
from kbsync.cli.output import Output, counted
from kbsync.core.text import printable
from kbsync.errors import UsageError


@click.command(
    epilog=examples("kbsync search invoice && kbsync open", "kbsync open 3", 'ls -l "$(kbsync open 2)"')
)
@click.argument("number", metavar="[N]", default=1, type=click.IntRange(min=1))
@click.option("--print", "only_print", is_flag=True, help="Print its path, open nothing.")
@shared_options
def command(choices: Choices, number: int, only_print: bool) -> int:
    """Open the N-th hit of your last search on a terminal (default: the first).

    With a display by xdg-open; on a terminal without one by $VISUAL or $EDITOR; else its path is printed.
    """
    last = recall(os.environ)
    if last is None:
        why = "neither $XDG_RUNTIME_DIR nor /dev/shm has a place that is yours alone"
        if has_place(os.environ):
            why = "none was made on a terminal"
        files = choices.typed("search QUERY --files")
        raise UsageError(f"no search is remembered: {why}; print paths with: {files}")
    again = f"search again: {printable(last.again)}"
    if number > len(last.paths):
        raise UsageError(f"the last search has {counted(len(last.paths), 'hit')}; {again}")
    path = last.paths[number - 1]
    if not path.exists():
        raise UsageError(f"{printable(str(path))} is not there any more; {again}")
    if only_print:
        Output().path(str(path))
    else:
        open_or_print(path, os.environ)
    return Code.MIRRORED


def open_or_print(path: Path, environ: Mapping[str, str]) -> None:
    """Show a file to a person as far as there is something to show it with."""
    opener = shutil.which("xdg-open", path=environ.get("PATH"))
    has_display = bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal and has_display and opener is not None:
        # Begun out of reach of this terminal, and not waited for: some openers last as long as the window.
        nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        os.posix_spawn(opener, [opener, str(path)], dict(environ), file_actions=nowhere, setsid=True)
    elif is_terminal and (editor := shlex.split(environ.get("VISUAL") or environ.get("EDITOR") or "")):
        try:
            subprocess.run([*editor, str(path)], check=False)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UsageError(f"{editor[0]} cannot be run ({why}); correct $VISUAL, or add --print") from None
    else:
        Output().path(str(path))
