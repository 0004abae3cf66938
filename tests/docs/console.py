"""Runs the commands of a page one after the other in one folder, like a reader at a terminal.

A stand-in that a page starts is a real process; it continues alongside the other commands, as in another
terminal, until a new one takes its port or the page ends. The pages' port is replaced by a free one.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import termios
import threading
from collections.abc import Iterable
from pathlib import Path

from tests import warm
from tests.docs.pages import ROOT, Block, Step, steps
from tests.ports import free_port

HOME = "/home/ada"
"""The home of the pages' reader."""

PORT = "8787"
"""The port of the stand-in on the pages."""

PATIENCE = 60.0
_SERVES = re.compile(r"make standin ARGS=")
_FILE_NAME = re.compile(r"# (\S+\.yaml)\n")

_CURL = """#!/bin/sh
'''exec' {python} "$0" "$@"
' '''
import sys, urllib.error, urllib.request
words = sys.argv[1:]
given = dict(zip(words, words[1:]))
body = given.get("-d")
url = next(word for word in words if word.startswith("http"))
request = urllib.request.Request(url, body and body.encode(), method=given.get("-X"))
try:
    print(urllib.request.urlopen(request).read().decode(), end="")
except urllib.error.HTTPError as error:
    print(error.read().decode(), end="")
"""
"""The part of curl that the pages use, for machines without curl."""


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a person who has just installed kbsync."""
    path = [warm.programs(), str(Path(sys.executable).parent), os.environ["PATH"], str(home / ".bin")]
    return {
        "HOME": str(home),
        "PATH": os.pathsep.join(path),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "VENV": sys.prefix,
        "SETUP": "no",
        "PYTHONUNBUFFERED": "1",
    }


def run(command: str, cwd: Path, home: Path) -> str:
    """Return a shell's output for a command, with a terminal as stderr: people read texts there, programs
    JSON.
    """
    with contextlib.ExitStack() as undo:
        controller, terminal = pty.openpty()
        undo.callback(os.close, controller)
        # A terminal would write \r\n for each \n, and pages show \n.
        modes = termios.tcgetattr(terminal)
        modes[1] &= ~termios.OPOST
        termios.tcsetattr(terminal, termios.TCSANOW, modes)
        printed, printing = os.pipe()
        undo.callback(os.close, printed)
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=cwd,
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=printing,
            stderr=terminal,
        )
        os.close(printing)
        os.close(terminal)
        # A command that waits for an answer would hang the page.
        too_long = threading.Timer(120, process.kill)
        undo.callback(too_long.cancel)
        too_long.start()
        output = _both(controller, printed)
        process.wait()
    return output.decode()


def _both(terminal: int, pipe: int) -> bytes:
    """Return the data from either until both end; if both have some, the terminal's first."""
    output, open_ones = b"", [terminal, pipe]
    while open_ones:
        ready, _, _ = select.select(open_ones, [], [])
        # What was written to the terminal first may have arrived only after the terminal was polled.
        if terminal in open_ones and terminal not in ready:
            ready += select.select([terminal], [], [], 0)[0]
        # Messages for people come before the result, as on the pages.
        descriptor = min(ready, key=open_ones.index)
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # EIO: the terminal's other end is closed
            piece = b""
        output += piece
        if not piece:
            open_ones.remove(descriptor)
    return output


def without_measurements(text: str) -> str:
    """Remove times, scores and ids, which differ from run to run."""
    # Ids first: as numbers without a unit they would look like measurements.
    text = re.sub(r"\b\d{16,20}\b", "ID", text)
    text = re.sub(r"\b\d+(\.\d+)? s\b", "N s", text)
    return re.sub(r"\d+\.\d+", "N", text)


class Console:
    """The terminal of one page. `home` is the reader's home and working folder."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = str(free_port())
        self._standin: subprocess.Popen[str] | None = None
        if shutil.which("curl") is None:
            (home / ".bin").mkdir()
            (home / ".bin" / "curl").write_text(_CURL.format(python=shlex.quote(sys.executable)))
            (home / ".bin" / "curl").chmod(0o755)

    def follow(self, blocks: Iterable[Block]) -> Iterable[tuple[Step, str]]:
        """Follow the blocks in order: yield each command with its output.

        A config that begins with a comment of its file's name is written to that file.
        """
        for block in blocks:
            if block.language == "console":
                yield from ((step, self.run(step)) for step in steps(block))
            elif name := _FILE_NAME.match(block.text):
                (self._home / name[1]).write_text(block.text.replace(PORT, self._port))

    def run(self, step: Step) -> str:
        """Return the command's output as the page would show it."""
        command = step.command.replace(PORT, self._port)
        serves = _SERVES.match(command)
        printed = self._serve(command, step) if serves else run(command, self._home, self._home)
        printed = printed.replace(str(self._home), HOME).replace(self._port, PORT)
        return printed if printed.endswith("\n") or not printed else f"{printed}\n"

    def _serve(self, command: str, step: Step) -> str:
        """Return as many lines as the page shows; the stand-in continues."""
        # The page's reader stops the previous one with Ctrl-C; both would need the same port.
        self.close()
        self._standin = subprocess.Popen(
            # `exec`, so that ending the process ends the server and not only its shell.
            ["bash", "-c", f"exec {command}"],
            cwd=ROOT,
            env=environment(self._home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        too_long = threading.Timer(PATIENCE, self._standin.kill)
        too_long.start()
        try:
            assert self._standin.stdout is not None
            return "".join(self._standin.stdout.readline() for _ in step.output.splitlines())
        finally:
            too_long.cancel()

    def close(self) -> None:
        """Stop the stand-in."""
        if self._standin is not None:
            self._standin.terminate()
            self._standin.communicate(timeout=PATIENCE)
            self._standin = None
