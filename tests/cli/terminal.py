"""Runs kbsync in its own terminal (a pty)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
from collections.abc import Callable

from tests.cli.sandbox import UNSET, Sandbox
from tests.warm import Warm

SECOND_SCREEN, FIRST_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
"""Sequences that show and leave a program's own screen."""

OF_DESKTOPS = ("COLUMNS", "LINES", "DISPLAY", "WAYLAND_DISPLAY", "VISUAL", "EDITOR")


PATIENCE = 60.0


class Terminal:
    """kbsync in its own terminal."""

    def __init__(self, sandbox: Sandbox, *words: str, rows: int = 24, columns: int = 60, **env: str) -> None:
        self.our_end, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(theirs)
        environment = {
            name: value for name, value in os.environ.items() if name not in (*UNSET, *OF_DESKTOPS)
        }
        self.process = Warm(
            words,
            cwd=sandbox.root,
            env={**environment, "HOME": str(sandbox.home), "TERM": "xterm", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        self.theirs = theirs
        self.output = ""

    def until(self, text: str) -> str:
        """Return the output up to this text."""
        while text not in self.output:
            ready, _, _ = select.select([self.our_end], [], [], PATIENCE)
            assert ready, f"no {text!r} after {PATIENCE:g} s in {self.output!r}"
            piece = os.read(self.our_end, 65536).decode(errors="replace")
            assert piece, self.output
            self.output += piece
        result, _, self.output = self.output.partition(text)
        return result + text

    def type(self, keys: str) -> None:
        os.write(self.our_end, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def end(self) -> int:
        """Return its exit code; `output` has all output, and the terminal's modes are restored."""
        code = self.process.wait(30)
        assert termios.tcgetattr(self.theirs) == self.before
        os.close(self.theirs)
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(self.our_end, 65536):
                self.output += piece.decode(errors="replace")
        os.close(self.our_end)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


Begin = Callable[..., Terminal]
