"""Runs kbsync as a process without loading it: a fork of one that has loaded everything.

Loading takes most of the time of a short command, and the tests run many. A `Warm` is a `Popen`: it has its
own process id, ends by signals, and has only the descriptors, folder and environment that it is given. Don't
use it to test what a start reads or loads, or what `ps` shows.

Each pytest process starts one `python -m tests.warm` on first use and sends it commands over a socket. That
process forks a keeper, which forks the program, reports its id, waits for it, and reports its end.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KBSYNC = "kbsync.__main__"
_ISOLATED = "tests.without_system_config"
_LONGEST = 200_000  # bytes of one message, which a socket transmits as a whole
_NUMBER = struct.Struct("i")


def run(words: Sequence[Any], *, timeout: float = 120.0, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run `kbsync` with these arguments to its end and capture its output. `options`: those of `Warm`."""
    with Warm(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class Warm(subprocess.Popen[Any]):
    """A module run as a program, by default kbsync; `options`: some of those of `Popen`."""

    def __init__(self, words: Sequence[Any], *, module: str = KBSYNC, **options: Any) -> None:
        super().__init__([module, *map(os.fspath, words)], **options)

    def _execute_child(  # type: ignore[no-untyped-def] # as Popen calls it
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *rest
    ) -> None:  # fmt: skip
        assert not (executable or preexec_fn or pass_fds or shell), "this needs a program that is started"
        assert not any(other not in (None, True, False, -1) for other in rest)
        status_read, status_write = os.pipe()
        request = {"words": args, "cwd": os.fspath(cwd or os.getcwd()), "env": dict(env or os.environ)}
        files = [
            descriptor if descriptor != -1 else number
            for number, descriptor in enumerate((p2cread, c2pwrite, errwrite))
        ]
        _ask(request, [*files, status_write])
        os.close(status_write)
        self._status_pipe = os.fdopen(status_read, "rb", buffering=0)
        (self.pid,) = _NUMBER.unpack(self._status_pipe.read(_NUMBER.size))
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Wait like `os.waitpid`, which only the keeper could call."""
        os.set_blocking(self._status_pipe.fileno(), not wait_flags & os.WNOHANG)
        status = self._status_pipe.read(_NUMBER.size)
        if status is None:
            return 0, 0
        self._status_pipe.close()
        return self.pid, _NUMBER.unpack(status)[0]

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._child_created:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)
        return self.returncode


def programs() -> str:
    """Create a folder for a shell's PATH, whose `kbsync` starts warm."""
    program = Path(_house().folder.name, "kbsync")
    if not program.exists():
        program.write_text(
            _PROGRAM.format(python=shlex.quote(sys.executable), address=_house().address, module=_ISOLATED)
        )
        program.chmod(0o755)
    return str(program.parent)


_PROGRAM = """\
#!/bin/sh
'''exec' {python} -ISs "$0" "$@"
' '''
import json, os, signal, socket, sys
ending, status = os.pipe()
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
    door.connect({address!r})
    wanted = dict(words=[{module!r}, *sys.argv[1:]], cwd=os.getcwd(), env=dict(os.environ))
    socket.send_fds(door, [json.dumps(wanted).encode()], [0, 1, 2, status])
os.close(status)
program = int.from_bytes(os.read(ending, 4), sys.byteorder)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(program, number))
code = os.waitstatus_to_exitcode(int.from_bytes(os.read(ending, 4), sys.byteorder))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


class _House:
    """The process that has loaded everything; it ends with this process or by `close`."""

    def __init__(self) -> None:
        self.address = f"\0kbsync-warm-{os.getpid()}"
        self.folder = tempfile.TemporaryDirectory()
        ending, self._lifeline = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.bind(self.address)
            door.listen()
            command = [sys.executable, "-m", __name__, str(door.fileno()), str(ending)]
            self._process = subprocess.Popen(command, pass_fds=[door.fileno(), ending])
        os.close(ending)

    def close(self) -> None:
        os.close(self._lifeline)
        self._process.wait()
        self.folder.cleanup()


_houses: list[_House] = []


def _house() -> _House:
    if not _houses:
        _houses.append(_House())
    return _houses[0]


def _ask(request: dict[str, Any], files: Sequence[int]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.connect(_house().address)
        socket.send_fds(door, [json.dumps(request).encode()], files)


def end() -> None:
    """End the process that the others were forked from, if there is one."""
    while _houses:
        _houses.pop().close()


def serve(door: socket.socket, ending: int) -> None:
    """Fork the requested programs until the other end of `ending` is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if the tests run under nohup
    while ending not in select.select([door, ending], [], [])[0]:
        caller, _ = door.accept()
        with caller:
            message, files, _, _ = socket.recv_fds(caller, _LONGEST, 4)
        if os.fork() == 0:
            door.close()
            os.close(ending)
            keep(json.loads(message), *files)
            return
        for file in files:
            os.close(file)


def keep(request: dict[str, Any], *files: int) -> None:
    """Keep one program; return in the program itself, at its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *standard_files, status_write = files
    pid = os.fork()
    if pid == 0:
        os.close(status_write)
        become(request, standard_files)
        return
    for file in (*standard_files, *range(3)):
        os.close(file)
    os.write(status_write, _NUMBER.pack(pid))
    os.write(status_write, _NUMBER.pack(os.waitpid(pid, 0)[1]))
    os._exit(0)


def become(request: dict[str, Any], files: Sequence[int]) -> None:
    """Run the request in this process, with these files as standard input, output and error."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.stdout = sys.__stdout__ = _writer(1)
    sys.stderr = sys.__stderr__ = _writer(2, errors="backslashreplace")
    module, *sys.argv[1:] = request["words"]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        leave(end.code)


def leave(code: object) -> None:
    """End the process as Python does, but without freeing everything that was loaded."""
    if isinstance(code, str):
        sys.exit(code)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else 0)


def _writer(number: int, errors: str = "strict") -> io.TextIOWrapper:
    file = io.FileIO(number, "wb", closefd=False)
    in_lines = number == 2 or os.isatty(number)
    return io.TextIOWrapper(io.BufferedWriter(file), "utf-8", errors, line_buffering=in_lines)


def load() -> None:
    """Load everything that commands would load when they need it."""
    import kbsync
    import kbsync_standin
    from kbsync.index import embed

    for package in (kbsync, kbsync_standin):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    model = embed.BuiltinEmbedder()
    model.embed([])
    assert model._tokenizer
    embed._loaded = {model}  # type: ignore[assignment]
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    load()
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
