"""Whether a file is a state that can be built on: ours, not newer, not damaged, not turned back."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import apsw

from kbsync.errors import UsageError
from kbsync.state import schema
from kbsync.state.connection import DamagedError

CHECK_UP_TO = 256 * 1024 * 1024
_MADE = re.compile(r"CREATE (?:TABLE|INDEX|UNIQUE INDEX|TRIGGER) (\w+)")


def refuse_no_file(path: Path) -> None:
    """Anything but a file has to make way, and a pipe would hold us. Raises `DamagedError`."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            return
        raise DamagedError(f"{path} is a link that leads nowhere") from None
    if not stat.S_ISREG(mode):
        raise DamagedError(f"{path} is no file")


def refuse_unfit(connection: apsw.Connection, path: Path) -> None:
    """Raises `DamagedError`: another program's, or tables are missing; `UsageError`: of a newer kbsync."""
    with connection:  # both as of one moment: it may be being made just now
        version = schema.version_of(connection)
        made = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    wanted = _made_by(version)
    if (made and not version) or not wanted <= made:
        raise DamagedError(f"{path} is not a state of kbsync, or tables of it are missing")
    if version > schema.VERSION:
        raise UsageError(f"{path} was written by a newer kbsync; use that version or another --state-dir")


def _made_by(version: int) -> set[str]:
    """Names of what a schema has; of a newer one what will hardly ever go."""
    if version > schema.VERSION:
        return {"meta", "mirror", "upload"}
    return {name for script in schema.MIGRATIONS[:version] for name in _MADE.findall(script)}


def refuse_damaged(connection: apsw.Connection, path: Path) -> None:
    """Before anything is built on it; a file so large that this takes long is checked as it is read."""
    if path.stat().st_size > CHECK_UP_TO:
        return
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict is None or verdict[0] != "ok":
        raise DamagedError(f"{path} is damaged ({verdict[0] if verdict else 'unreadable'})")


def is_turned_back(path: Path) -> bool:
    """The file is older than the last thing that was done with it: ours always has its WAL file beside it.

    It was put there from a backup, or its WAL was taken away together with the newest changes.
    """
    return path.exists() and path.stat().st_size > 0 and not path.with_name(f"{path.name}-wal").exists()


def catch_up(connection: apsw.Connection) -> None:
    """What was done since the file was written is not in it.

    So what the knowledge bases hold is taken over once more, and no upload gets a number that was given then.
    """
    with connection:
        connection.execute("UPDATE binding SET adopted = 0")
        schema.choose_next_upload(connection)
