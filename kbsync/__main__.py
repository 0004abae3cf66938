"""The entry point of `python -m kbsync`. It imports the command-line interface only when needed."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence

from kbsync import version_and_revision


def main(arguments: Sequence[str] | None = None) -> int:
    """Run kbsync with these arguments, by default those of the process. Return its exit code."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        # Handles Ctrl+C while modules are imported. Later, the command line does that.
        return 130


_M_ARENA_MAX = -8  # <malloc.h>


def _limit_memory_arenas() -> None:
    """Let all threads share two of malloc's arenas.

    By default, glibc gives almost every thread its own, and each arena keeps most of what its threads have
    ever needed at once. With two, `benchmarks/first_index.py` peaks at 196 MiB instead of 285.
    """
    import ctypes

    if hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has neither the call nor arenas
        libc.mallopt(_M_ARENA_MAX, 2)


def _run(arguments: Sequence[str] | None) -> int:
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if argv == ["--version"]:  # answered before any import
        try:
            sys.stdout.write(f"kbsync {version_and_revision()}\n")
            sys.stdout.flush()
            return 0
        except (OSError, AttributeError):
            pass  # stdout is full or closed: the command line reports that
    if sys.platform != "linux":  # a wheel installs anywhere
        way = "on macOS and Windows, run kbsync in a container; docs/platforms.md has the commands"
        sys.stderr.write(f"kbsync: runs on Linux; {way}\n")
        return 2
    if arguments is None and sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        # The state and the targets store file names in UTF-8. In a locale with a different encoding, all
        # names that aren't ASCII would change. Messages keep the locale's encoding.
        import locale

        os.environ.setdefault("PYTHONIOENCODING", locale.getencoding())
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606
    if arguments is None:  # the process is ours alone, and will hold keys
        # A reload during the imports must not end the daemon, and a stop gets the same exit code as a later
        # one. The command line unblocks the signals.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
        from kbsync.permissions import keep_memory_private

        keep_memory_private()
        _limit_memory_arenas()
        if "OPENBLAS_NUM_THREADS" not in os.environ:
            # kbsync doesn't use BLAS, but numpy would start its threads, which takes 30 ms of a search.
            # Commands that kbsync starts get `os.environ`, which this doesn't change.
            os.putenv("OPENBLAS_NUM_THREADS", "1")
        # By default, Python collects garbage 45 times while the modules of a command load, and finds none.
        gc.set_threshold(100_000)
    from kbsync.cli.main import run_cli

    code = run_cli(argv)
    if arguments is None:
        gc.freeze()  # otherwise Python collects garbage at exit, which takes another 30 ms
    return code


if __name__ == "__main__":
    sys.exit(main())
