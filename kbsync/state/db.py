"""Opening SQLite the same way everywhere, and carrying odd file names through it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from kbsync.errors import StateError
from kbsync.permissions import open_private

BUSY_MS = 10_000
TEMPORARY_CACHE_KIB = 32 * 1024
_EMPTYING_MS = 500
"""How long readers are waited for, and writes wait with us: longer than a search reads on a slow machine."""

_NOT_FOR_ALL = 0o027


def bind(text: str) -> str | bytes:
    """A path, name or reason as SQLite takes it: TEXT, or BLOB where it holds bytes that are not UTF-8.

    A surrogate that stands for no byte, as JSON may hold, becomes U+FFFD.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def unbind(value: str | bytes) -> str:
    """The inverse of `bind`."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def open_writer(path: Path) -> apsw.Connection:
    """The one writing connection: WAL, synchronous=FULL, mode 0600, WAL files kept for later readers."""
    _make_private(path)
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_MS)
    _set_up(connection)
    connection.pragma("secure_delete", True)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("foreign_keys", False)
    # The WAL files stay when we close: a reader of another user could not create them.
    on = ctypes.c_int(1)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(on))
    return connection


def _make_private(path: Path) -> None:
    """Make the file where it is missing; take back what all may do."""
    # SQLite makes -wal and -shm with the mode of the file and, as root, with its owner. What its group may
    # read, a person has granted, for `status` and `search`.
    os.close(open_private(path, os.O_RDWR))
    for file in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & _NOT_FOR_ALL:
                file.chmod(mode & ~_NOT_FOR_ALL)


@contextmanager
def transaction(connection: apsw.Connection, begin: str = "BEGIN") -> Iterator[None]:
    """All that is done within as of one moment, and all of it or nothing."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Trouble with the disk may have ended it already. A second error would hide the first, as that of
        # apsw's own context manager does.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def empty_wal(connection: apsw.Connection) -> bool:
    """Copy the WAL of a writer into the file and empty it; False if a reader or a full disk is in the way."""
    # What was deleted is overwritten in the file at once (`secure_delete`), and in the WAL only here.
    connection.set_busy_timeout(_EMPTYING_MS)
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.IOError):
        return False
    finally:
        connection.set_busy_timeout(BUSY_MS)
    return True


def open_reader(path: Path) -> apsw.Connection:
    """A connection that can change nothing and creates no file."""
    connection = apsw.Connection(f"{path.resolve().as_uri()}?mode=ro", flags=READ_FLAGS)
    connection.set_busy_timeout(BUSY_MS)
    _set_up(connection)
    connection.pragma("query_only", True)
    return connection


def open_temporary() -> apsw.Connection:
    """A database of this process alone that is gone with it; small ones stay in memory.

    SQLite unlinks the file as it makes it. Where no directory takes one, all of it stays in memory.
    """
    # The places where SQLite puts temporary files, in its order.
    places = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108
    has_place = any(place and os.access(place, os.W_OK | os.X_OK) for place in places)
    connection = apsw.Connection("" if has_place else ":memory:")
    _set_up(connection)
    connection.pragma("cache_size", -TEMPORARY_CACHE_KIB)
    connection.pragma("journal_mode", "memory")
    connection.pragma("synchronous", "off")
    return connection


def _set_up(connection: apsw.Connection) -> None:
    """Nothing is written outside of the file's folder; a plan is made once, not for each set of values."""
    # Temporary files would hold what is private, and with a read-only root there could be none.
    connection.pragma("temp_store", 2)
    # The "query planner stability guarantee": without it a statement is often compiled again when its values
    # change, which takes longer than most of ours do.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


READ_FLAGS = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI


@contextmanager
def state_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's trouble with the file itself into a `StateError` that names file and cure."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise DamagedError(f"{path} is damaged ({error})") from error
    except apsw.FullError as error:
        raise StateError(f"{path}: the disk is full; free some space, the work goes on by itself") from error
    except apsw.CantOpenError as error:
        raise StateError(f"{path} cannot be opened ({error}); {_cure_of_closed(path)}") from error
    except apsw.BusyError as error:
        raise StateError(f"{path} is kept locked by another program; end that first") from error
    except (apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise StateError(f"{path} cannot be written ({error}); check its owner and mode") from error
    except apsw.NoMemError as error:
        raise StateError(
            f"{path}: the memory is used up; the work goes on by itself when there is some"
        ) from error
    except apsw.IOError as error:
        raise StateError(f"{path}: the disk failed ({error}); look at it and its kernel log") from error


def _cure_of_closed(path: Path) -> str:
    """What a person can do about it."""
    # SQLite does not say that it was out of descriptors, or the disk out of inodes.
    try:
        os.close(os.dup(2))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return "too many open files; raise the limit of open files (ulimit -n, LimitNOFILE=)"
    if lacks_inodes(path):
        return "no free inode is left there (df -i); free some, the work goes on by itself"
    return "check its owner and mode"


def lacks_inodes(place: Path) -> bool:
    """Whether no more files can be made where `place` is or was to be, however much space there is."""
    for folder in (place, *place.parents):
        with contextlib.suppress(OSError):
            status = os.statvfs(folder)
            return status.f_files > 0 and status.f_favail == 0
    return False


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file that has this name now; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def set_aside(path: Path) -> Path:
    """Rename a database and its WAL files to the first free `….damaged-<n>`, which is returned."""
    numbered = (path.with_name(f"{path.name}.damaged-{n}") for n in itertools.count(1))
    aside = next(place for place in numbered if not place.exists())
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def list_set_aside(folder: Path) -> list[Path]:
    """Databases in a folder that were set aside, each without its WAL files."""
    found = sorted(folder.glob("*.db.damaged-*"))
    return [file for file in found if not file.name.endswith(("-wal", "-shm"))]


def forget_set_aside(path: Path) -> None:
    """Remove what was set aside of a database: it may hold what is to be kept nowhere any more."""
    for aside in path.parent.glob(f"{path.name}.damaged-*"):
        aside.unlink(missing_ok=True)


class Table:
    """One table of the state, or a few that belong together, on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection


class DamagedError(StateError):
    """The file is no (longer a) sound database; `what` says which and why, without the cure."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; the next start of kbsync sets it aside and makes a new one")
        self.what = what
