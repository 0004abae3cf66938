"""The entry point: it loads the command line only when it is needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kbsync import version_and_revision


def main(arguments: Sequence[str] | None = None) -> int:
    """Run kbsync with these arguments (default: the process's own) and return its exit code."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        # While modules are loaded; later the command line sees to it.
        return 130


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:  # answered before anything is loaded
        sys.stdout.write(f"kbsync {version_and_revision()}\n")
        return 0
    if arguments is None:  # the process is ours alone, and will hold keys
        from kbsync.permissions import keep_memory_private

        keep_memory_private()
    from kbsync.cli.main import run_cli

    return run_cli(given)


if __name__ == "__main__":
    sys.exit(main())
