"""Opens SQLite databases with the same settings everywhere, and converts file names that aren't UTF-8."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from kbsync.dataclass import dataclass
from kbsync.errors import TOO_MANY_OPEN_FILES, StateError
from kbsync.file_systems import DISK_FAILED, has_failed
from kbsync.permissions import exists, open_private
from kbsync.state.lock import describe_misplaced, refusal
from kbsync.state.overwrite import OverwritingConnection

BUSY_MS = 10_000
TEMPORARY_CACHE_KIB = 32 * 1024
_EMPTYING_MS = 500
"""Milliseconds to wait for readers while other writes are waiting.

A search takes less, even on a slow machine.
"""

_NOT_FOR_ALL = 0o027

_DESCRIPTORS = 4
"""Number of descriptors that SQLite needs to open a database: for the file, its WAL, the WAL's index, and the
folder.
"""


def bind(text: str) -> str | bytes:
    """Return a path, name or reason as SQLite stores it: TEXT, or BLOB if it contains bytes that aren't
    UTF-8.

    A surrogate that doesn't encode a byte, which JSON may contain, becomes U+FFFD.
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
    """Convert a value from SQLite back to a string. This is the inverse of `bind`."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def open_writer(path: Path) -> OverwritingConnection:
    """Open a connection for writing, with WAL, synchronous=FULL, mode 0600, and WAL files kept for later
    readers. Raises `DamagedError` for anything but a regular file.
    """
    _refuse_no_file(path)
    # SQLite creates -wal and -shm with the mode of the file and, as root, with its owner. Keep group access,
    # which a user granted for `status` and `search`.
    os.close(open_private(path, os.O_RDWR))
    for file in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            mode = file.lstat().st_mode
            # While the file was read-only, a reader has made its empty WAL read-only, too.
            private = stat.S_IMODE(mode) & ~_NOT_FOR_ALL | stat.S_IWUSR
            # A symlink may lead to somebody else's file.
            if stat.S_ISREG(mode) and stat.S_IMODE(mode) != private:
                file.chmod(private)
    connection = open_file(path)
    connection.set_busy_timeout(BUSY_MS)
    _set_up(connection)
    connection.pragma("secure_delete", True)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("foreign_keys", False)
    # Keep the WAL files after close: a reader run by another user couldn't create them.
    on = ctypes.c_int(1)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(on))
    with contextlib.suppress(apsw.Error, OSError):
        connection.copy_wal()  # what a killed process left
    return connection


def _refuse_no_file(path: Path) -> None:
    """Raise `DamagedError` for anything but a regular file. Opening a pipe, for example, would block."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            return
        raise DamagedError(f"{path} is a broken link") from None
    if not stat.S_ISREG(mode):
        raise DamagedError(f"{path} is not a file")


def open_file(path: Path) -> OverwritingConnection:
    """Return a connection for reading and writing the file.

    The file's path may contain bytes that aren't UTF-8.
    """
    return OverwritingConnection(path, WRITE_FLAGS)


@contextmanager
def transaction(connection: apsw.Connection, begin: str = "BEGIN") -> Iterator[None]:
    """Run the block on a consistent snapshot, and commit all of its changes or none."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A disk error may have ended the transaction already. A second error would hide the first, as it does
        # in apsw's own context manager.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def empty_wal(connection: OverwritingConnection) -> bool:
    """Copy a writer's WAL into the file, and empty the WAL.

    Return False if a reader, another process that copies the WAL, or a full or failing disk prevents that.
    """
    # SQLite overwrites deleted data in the file immediately (`secure_delete`), but data in the WAL only here.
    connection.set_busy_timeout(_EMPTYING_MS)
    try:
        connection.copy_wal(empties=True)
    except (
        apsw.BusyError,
        apsw.LockedError,
        apsw.FullError,
        apsw.IOError,
        apsw.CantOpenError,
        apsw.ReadOnlyError,
        OSError,
    ):
        return False
    finally:
        connection.set_busy_timeout(BUSY_MS)
    return True


def open_reader(path: Path, *, immutable: bool = False) -> apsw.Connection:
    """Return a connection that can't change anything.

    `immutable`: nobody is writing to the file, and it has no WAL file. Raises `DamagedError` for anything but
    a regular file.
    """
    _refuse_no_file(path)
    # Otherwise SQLite would create the WAL file even for a reader, and its absence marks a restored state.
    mode = "immutable=1" if immutable else "mode=ro"
    connection = apsw.Connection(f"{path.resolve().as_uri()}?{mode}", flags=READ_FLAGS)
    connection.set_busy_timeout(BUSY_MS)
    _set_up(connection)
    connection.pragma("query_only", True)
    return connection


def open_temporary() -> apsw.Connection:
    """Return a private database that exists only as long as this process. A small database stays in memory.

    For a larger one, SQLite creates a file and unlinks it at once. If no directory allows a file to be
    created, the whole database stays in memory.
    """
    # The directories that SQLite tries for temporary files, in its own order.
    folders = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108
    has_folder = any(folder and os.access(folder, os.W_OK | os.X_OK) for folder in folders)
    connection = apsw.Connection("" if has_folder else ":memory:")
    _set_up(connection)
    connection.pragma("cache_size", -TEMPORARY_CACHE_KIB)
    connection.pragma("journal_mode", "memory")
    connection.pragma("synchronous", "off")
    return connection


def _set_up(connection: apsw.Connection) -> None:
    """Configure the connection to write only inside the file's folder, and to plan each statement once for
    all values.
    """
    # Temporary files would contain private data, and a container with a read-only root has no place for them.
    connection.pragma("temp_store", 2)
    # The "query planner stability guarantee": without it SQLite often recompiles a statement when its values
    # change, which takes longer than most of our statements.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


DISK_FULL = "the disk is full; free some space, and a running kbsync will continue automatically"
MIN_FREE_BYTES = 65_536
"""A disk with fewer free bytes than this counts as full, because a commit of the state may need that many."""

READ_FLAGS = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
WRITE_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
"""Flags for opening a file by URI, because `apsw` doesn't accept a path with bytes that are not UTF-8."""


@contextmanager
def state_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the file itself into a `StateError` that names the file and a fix."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise DamagedError(f"{path} is damaged ({error})") from error
    except apsw.FullError as error:
        raise StateError(f"{path}: {DISK_FULL}") from error
    except apsw.CantOpenError as error:
        problem = StateError(f"{path} cannot be opened ({error}); {fix_for_closed(path)}")
        raise find_obstacle(path, os.R_OK) or problem from error
    except apsw.BusyError as error:
        raise StateError(f"{path} is locked by another program; stop that program first") from error
    except (apsw.ReadOnlyError, apsw.PermissionsError) as error:
        problem = StateError(f"{path} cannot be written ({error}); check its owner, mode and mount")
        raise find_obstacle(path, os.W_OK) or problem from error
    except apsw.NoMemError as error:
        raise StateError(
            f"{path}: out of memory; free some memory, and a running kbsync will continue automatically"
        ) from error
    except apsw.IOError as error:
        problem = StateError(f"{path}: {io_failure(error, path)}")
        raise find_obstacle(path, os.R_OK) or problem from error


def io_failure(error: apsw.IOError, path: Path) -> str:
    """Return why the disk of `path` refused a read or write, and how to fix that."""
    if has_failed(path):
        return DISK_FAILED
    # SQLite doesn't report that a file has reached the limit on file sizes.
    has_limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    code = getattr(error, "extendedresult", 0)  # apsw's stubs lack it
    if has_limit and code in (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE):
        return "the limit on file sizes is too low; raise it (ulimit -f, LimitFSIZE=)"
    # SQLite gives no reason if the sync of a copy fails.
    reason = "" if "not an error" in str(error) else f" ({error})"
    return f"the disk failed{reason}; check the disk and the kernel log"


def find_obstacle(path: Path, access: int) -> StateError | None:
    """Return the error, with the fix, if something else has the name of one of the database's WAL files, or
    if this user's own directory contains a file of the database to which the user lacks `access`.

    SQLite reports both like a failed disk or like a problem with the database itself.
    """
    files = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    for file in files[1:]:
        if os.path.lexists(file) and not file.is_file():
            return StateError(describe_misplaced(file))
    for file in files:
        with contextlib.suppress(OSError):
            if os.statvfs(file.parent).f_flag & os.ST_RDONLY:  # regardless of the mode
                access &= ~os.W_OK
            if exists(file) and not os.access(file, access) and path.parent.stat().st_uid == os.geteuid():
                return refusal(path.parent, file)
    return None


def find_descriptor_shortage(count: int) -> OSError | None:
    """Return the error that prevents this process from opening `count` more files, or None."""
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.callback(os.close, os.dup(2))
    except OSError as error:
        return error if error.errno in TOO_MANY_OPEN_FILES else None
    return None


def fix_for_closed(path: Path) -> str:
    """Return what the user can do if the database can't be opened."""
    # SQLite doesn't report that it ran out of descriptors, or the disk out of inodes.
    if shortage := find_descriptor_shortage(_DESCRIPTORS):
        return f"too many open files; {TOO_MANY_OPEN_FILES[shortage.errno or 0]}"
    if lacks_inodes(path):
        return (
            "the file system has no free inodes (df -i); free some, and a running kbsync will continue "
            "automatically"
        )
    return "check its owner and mode"


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """The space and inodes that this user may still use on a file system.

    `inodes` is None if they are created as needed.
    """

    free_bytes: int
    inodes: int | None


def free_space(path: Path) -> FreeSpace | None:
    """Return the free space where `path` is or will be, or None if it can't be determined."""
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            status = os.statvfs(folder)
            # A file system may reserve some space for root.
            is_root = os.geteuid() == 0
            blocks = status.f_bfree if is_root else status.f_bavail
            inodes = status.f_ffree if is_root else status.f_favail
            # btrfs and others don't count inodes.
            return FreeSpace(blocks * status.f_frsize, inodes if status.f_files else None)
    return None


def is_disk_full(path: Path) -> bool:
    """Return whether the disk that contains `path` is probably too full for another commit to the state."""
    space = free_space(path)
    return space is not None and space.free_bytes < MIN_FREE_BYTES


def lacks_inodes(path: Path) -> bool:
    """Return whether no more files can be created on the file system that contains `path`, even if there is
    space left.
    """
    space = free_space(path)
    return space is not None and space.inodes == 0


def identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of the file at this path, or None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def set_aside(path: Path, *, is_foreign: bool = False) -> Path:
    """Rename a database and its WAL files to the first free `….damaged-<n>` or, if it is another program's,
    `….foreign-<n>`, which `forget_set_aside` doesn't delete. Return the new path of the database itself.

    Raises OSError, also if a part of the file can't be read.
    """
    if path.is_file():  # if it can't be read, the disk may have failed, and the file isn't damaged
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
    label = "foreign" if is_foreign else "damaged"
    numbered = (path.with_name(f"{path.name}.{label}-{n}") for n in itertools.count(1))
    aside = next(candidate for candidate in numbered if not os.path.lexists(candidate))
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def delete_database(path: Path) -> None:
    """Delete a database and its WAL files, if they exist. Raises OSError."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def list_set_aside(folder: Path) -> list[Path]:
    """Return the damaged databases that were set aside in a folder, and the WAL files of directories that
    had the name of a database.
    """
    files = _find_set_aside(folder, "*.db")
    databases = [file.with_name(file.name.removesuffix("-wal").removesuffix("-shm")) for file in files]
    pairs = zip(files, databases, strict=True)
    return [file for file, database in pairs if file == database or database not in files]


def forget_set_aside(path: Path) -> None:
    """Delete the copies of a database that were set aside, because they may contain text that must not be
    kept.
    """
    for aside in _find_set_aside(path.parent, path.name):
        aside.unlink(missing_ok=True)


def _find_set_aside(folder: Path, name: str) -> list[Path]:
    """Return the files that were set aside. A directory that had a file's name isn't kbsync's to delete."""
    paths = sorted(folder.glob(f"{name}.damaged-*"))
    return [path for path in paths if path.is_symlink() or not path.is_dir()]


class Table:
    """Provides access to one table of the state, or a few related ones, on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection


class DamagedError(StateError):
    """Raised if the file isn't a valid database, or is no longer one.

    `damage` names the file and the reason, without the fix. `is_foreign`: it is another program's database.
    """

    def __init__(self, damage: str, *, is_foreign: bool = False) -> None:
        super().__init__(
            f"{damage}; the next time kbsync starts, it will set this file aside and create a new one"
        )
        self.what, self.is_foreign = damage, is_foreign
