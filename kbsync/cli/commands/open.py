"""`kbsync open`: opens a hit of the last search.

The last search that a person made is kept in memory: its paths, and the command that repeats it, in a folder
of `$XDG_RUNTIME_DIR` or else `/dev/shm` that only its owner may enter. Without either nothing is remembered:
a search never writes into the state or a home, where the name of a deleted file would stay (promise 11).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from kbsync.cli.options import Choices, examples, shared_options
from kbsync.cli.output import Output, counted
from kbsync.core.text import printable
from kbsync.errors import UsageError


@click.command(
    epilog=examples("kbsync search invoice && kbsync open", "kbsync open 3", 'ls -l "$(kbsync open 2)"')
)
@click.argument("number", metavar="[N]", default=1, type=click.IntRange(min=1))
@click.option("--print", "only_print", is_flag=True, help="Only print its path.")
@shared_options
def command(choices: Choices, number: int, only_print: bool) -> None:
    """Open hit N of your last search on a terminal (default: the first).

    With a display xdg-open opens it, on a terminal without one $VISUAL or $EDITOR; else its path is printed.
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
        raise UsageError(f"{printable(str(path))} no longer exists; {again}")
    if only_print:
        Output().path(str(path))
    else:
        open_or_print(path, os.environ)


def open_or_print(path: Path, environ: Mapping[str, str]) -> None:
    """Open a file with what there is to open it with, else print its path."""
    opener = shutil.which("xdg-open", path=environ.get("PATH"))
    has_display = bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal and has_display and opener is not None:
        # In a session of its own and not waited for: some openers run as long as their window is open.
        nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        os.posix_spawn(opener, [opener, str(path)], dict(environ), file_actions=nowhere, setsid=True)
    elif is_terminal and (editor := shlex.split(environ.get("VISUAL") or environ.get("EDITOR") or "")):
        # Loaded here, since a search does without it.
        import subprocess

        try:
            subprocess.run([*editor, str(path)], check=False)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UsageError(f"{editor[0]} cannot be run ({why}); correct $VISUAL, or add --print") from None
    else:
        Output().path(str(path))


MOST = 100
MEMORY = Path("/dev/shm")  # noqa: S108 - what is made there is believed only once its owner was looked at
_FILE = "last-search"


@dataclass(frozen=True, slots=True)
class Remembered:
    """A search. `again`: the command to repeat it; `paths`: best first."""

    again: str
    paths: Sequence[Path]


def remember(paths: Sequence[Path], again: str, environ: Mapping[str, str]) -> bool:
    """Replace the remembered search; False where there is no place for one."""
    content = b"\0".join([os.fsencode(again), *map(os.fsencode, paths[:MOST])])
    for folder in _folders(environ):
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            fresh = f".{_FILE}-{os.urandom(4).hex()}"
            with _entered(folder) as inside:
                with _opened(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, inside) as file:
                    os.write(file, content)
                os.replace(fresh, _FILE, src_dir_fd=inside, dst_dir_fd=inside)
            return True
    return False


def recall(environ: Mapping[str, str]) -> Remembered | None:
    """The last search; None where none is remembered."""
    for folder in _folders(environ):
        with contextlib.suppress(OSError):
            with _entered(folder) as inside, _opened(_FILE, os.O_RDONLY, inside) as file:
                content = b"".join(iter(lambda: os.read(file, 65536), b""))
            again, *paths = map(os.fsdecode, content.split(b"\0"))
            return Remembered(again, [Path(path) for path in paths])
    return None


def has_place(environ: Mapping[str, str]) -> bool:
    """Whether a search would be remembered."""
    for folder in _folders(environ):
        with contextlib.suppress(OSError), _entered(folder):
            return True
        if not os.path.lexists(folder) and os.access(folder.parent, os.W_OK | os.X_OK):
            # The first search makes it.
            return True
    return False


def _folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where to look, in this order. What `sudo` lets a user's variable point at belongs to that user."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    with contextlib.suppress(OSError):
        if runtime.startswith("/") and os.stat(runtime).st_uid == os.geteuid():
            yield Path(runtime, "kbsync")
    yield MEMORY / f"kbsync-{os.geteuid()}"


@contextlib.contextmanager
def _entered(folder: Path) -> Iterator[int]:
    """Its descriptor, whatever its name leads to afterwards.

    Raises `OSError` where it is a symlink, somebody else's, or others may do anything in it.
    """
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as inside:
        found = os.fstat(inside)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise PermissionError(errno.EACCES, "is not ours alone", str(folder))
        yield inside


@contextlib.contextmanager
def _opened(path: Path | str, flags: int, inside: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=inside)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
