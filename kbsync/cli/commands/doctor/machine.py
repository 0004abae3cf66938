"""Checks of this machine: config, state, leftover copies, folders, listener, disk, file watches, versions and
credentials.
"""

from __future__ import annotations

import os
import platform
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path

from kbsync import install_command, version_and_revision
from kbsync.cli.commands.doctor.command import CheckResult, failed_check, read_only, warning, wrong
from kbsync.cli.context import list_damaged, open_state, read_state
from kbsync.cli.exit_codes import Code
from kbsync.cli.folder_contents import limits_of, scan_mirror
from kbsync.config import places
from kbsync.config.model import Config, MirrorConfig, blocks, secret_keys
from kbsync.config.yaml import Value, read_yaml
from kbsync.core.model import Formats, Status
from kbsync.core.text import format_count, format_size, printable, shell_word
from kbsync.errors import KbsyncError, UnmadeError, UsageError, system_reason
from kbsync.file_systems import access_within, real_path
from kbsync.installation import BASES, Installation
from kbsync.permissions import command_to_open, exists
from kbsync.source.roots import identify
from kbsync.state import lock
from kbsync.state.db import free_space
from kbsync.state.forgotten import ForgottenBase
from kbsync.state.mirrors import MirrorRecord
from kbsync.state.read_only import Tx


def config(installation: Installation) -> Iterator[CheckResult]:
    """Check which config is used, and whether other users can read a key in it."""
    path = installation.config.path
    if path is None:
        yield CheckResult("config", f"none; --folder {installation.config.mirrors[0].folder}")
        return
    yield CheckResult("config", str(path))
    settings = list(_texts_in(read_yaml(path.read_text("utf-8-sig")).value))
    secrets = {key for _, block in blocks() for key in secret_keys(block)}
    files = [value for key, value in settings if key.removesuffix("_file") in secrets - {key}]
    with_secrets = [path.parent / os.path.expanduser(file) for file in files]  # noqa: PTH111 (as configs are read)
    if any(key in secrets and _is_secret(key, value) for key, value in settings):
        with_secrets.insert(0, path)
    for file in with_secrets:
        try:
            is_open = bool(file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
        except OSError:
            continue
        if is_open:
            fix = f"chmod o-rwx {shell_word(str(file))}"
            yield warning("config", f"any user can read {file}, which may contain a secret", fix)


def _texts_in(value: Value, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts in a config, each with its key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts_in(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, str):
        yield key, value


def _is_secret(key: str, value: str) -> bool:
    """Return whether the value of a secret's key is in the config itself. A `dsn` may have no password."""
    if key != "dsn":
        return not value.startswith("${")
    # Written as `password=…`, or in a URL as `//user:…@host`.
    return re.search(r"(?:\bpassword\s*=|://[^\s/@:]*:)\s*(?!\$\{)[^\s@]", value) is not None


def state(installation: Installation) -> Iterator[CheckResult]:
    """Check that the state directory is usable and that its state is readable."""
    state_dir = installation.state_dir
    places.check_state_dir(state_dir, [mirror.folder for mirror in installation.config.mirrors], create=False)
    if problem := read_only("state", state_dir, Code.USAGE):
        yield problem
        return
    if not exists(state_dir):
        above = next(parent for parent in state_dir.parents if exists(parent))
        if os.access(above, os.W_OK | os.X_OK):
            yield CheckResult("state", f"the first pass will create {state_dir}")
        else:
            fix = f"sudo install -d -m 700 -o {user()} {shell_word(str(state_dir))}"
            yield wrong("state", f"{user()} cannot create {state_dir}", fix, Code.USAGE)
        return
    if not os.access(state_dir, os.R_OK | os.W_OK | os.X_OK):
        fix = command_to_open(state_dir) or f"sudo chown -R {user()} {shell_word(str(state_dir))}"
        detail, owner = f"{user()} cannot write to {state_dir}", lock.user_name(state_dir.stat().st_uid)
        is_of_service = owner != "root" and not owner.isdecimal()
        if owner != user() and (is_of_service or lock.is_held(state_dir)):  # the owner needs it
            detail = f"{detail}, which belongs to {owner}"
            name = shell_word(f"#{owner}") if owner.isdecimal() else owner
            fix = f"sudo -u {name} {installation.command_line('doctor')}"
        yield wrong("state", detail, fix, Code.USAGE)
        return
    if state_dir.stat().st_mode & stat.S_IWOTH:
        # A pass refuses it as well.
        fix = f"chmod go-rwx {shell_word(str(state_dir))}"
        yield wrong("state", f"anyone can write to the state directory {state_dir}", fix, Code.USAGE)
    elif state_dir.stat().st_mode & 0o077:
        fix = f"chmod go-rwx {shell_word(str(state_dir))}"
        yield warning("state", f"other users can read {state_dir}", fix)
    if astray := list(lock.unusable_paths(state_dir)):
        # From a command that ran as another user: the next pass would fail on it.
        more = f"; and {len(astray) - 1:,} more" if len(astray) > 1 else ""
        detail = f"{lock.fault_of(state_dir, astray[0])}{more}"
        yield wrong("state", detail, lock.fix_for(state_dir, astray[0]), Code.USAGE)
        return
    with open_state(installation) as store:
        note = "" if store.exists else ", nothing mirrored yet"
    yield CheckResult("state", f"{state_dir}{note}{'; kbsync is running' if lock.is_held(state_dir) else ''}")


def copies(installation: Installation) -> Iterator[CheckResult]:
    """Yield results for documents on this machine that no mirror in this config keeps up to date.

    Only `kbsync forget` deletes them, after showing them and asking for confirmation.
    """
    served = [base for mirror in installation.config.mirrors if (base := installation.embedded_base(mirror))]
    mirrored = {str(real_path(mirror.folder)) for mirror in installation.config.mirrors}
    records = read_state(installation, lambda tx: tx.mirrors.all())
    # Before the first pass nothing is mirrored here, whatever the config says.
    copied = {
        record.folder for record in records if record.last_pass is not None and record.folder in mirrored
    }
    used, others = [installation.state_dir, *served], list[Path]()
    with suppress(UsageError):  # no home directory is known
        others = sorted((places.state_home(os.environ) / "folders").glob("*/"))
    results = list[CheckResult]()
    for state_dir in others:
        # It is in use by this config or a running kbsync.
        if any(places.is_inside(folder, state_dir) for folder in used) or lock.is_held(state_dir):
            continue
        other = Installation(Config(mirrors=()), state_dir, ("--state-dir", str(state_dir)))
        try:
            if exists(other.state_file):
                results += _documents_in(other, mirrored, copied)
                results += _forgotten(other)
        except KbsyncError as error:
            results.append(warning("copies", f"{state_dir} cannot be read: {error}"))
    results += _forgotten(installation)
    results += _bases_of_former_mirrors(installation, served, mirrored)
    for file in list_damaged(installation):
        # It may contain the text of files that were deleted later.
        detail = f"{file} is damaged and was set aside for inspection"
        results.append(warning("copies", detail, installation.command_line("state discard")))
    yield from results or [CheckResult("copies", "none")]


def _documents_in(
    other: Installation, mirrored: Collection[str], copied: Collection[str]
) -> Iterator[CheckResult]:
    """Yield a result for each mirror in another state directory if its folder is missing or is also
    mirrored by this config.

    `copied`: folders whose documents are in a knowledge base of this config.
    """
    from kbsync.engine.forget import belongings

    def read_mirrors(tx: Tx) -> list[tuple[MirrorRecord, int, int]]:
        return [
            (record, belongings(tx, record).documents, tx.mirrors.tally(record.id).get(Status.HELD, 0))
            for record in tx.mirrors.all()
        ]

    mirrors = read_state(other, read_mirrors)
    for record, documents, held in mirrors:
        if record.folder in mirrored:
            why, may_end = f"{record.folder} is also mirrored with --folder", record.folder in copied
        elif not os.path.lexists(record.folder):
            why, may_end = f"{record.folder} does not exist", _is_surely_gone(record)
        else:
            continue
        held_note = f", {format_count(held, 'deletion')} waiting for approval" if held else ""
        detail = f"{why}: {format_count(documents, 'document')} in {other.state_dir}{held_note}"
        # The text of held documents may exist nowhere else.
        fix = other.command_line(f"forget {record.name} --delete-documents") if may_end and not held else ""
        yield warning("copies", detail, fix)


def _is_surely_gone(record: MirrorRecord) -> bool:
    """Return whether the mirror's missing folder was deleted or moved, rather than being temporarily
    unavailable.

    kbsync assumes this if the folder's parent is readable and no disk is unmounted.
    """
    parent, root = Path(record.folder).parent, record.root
    if not parent.is_dir() or not os.access(parent, os.R_OK | os.X_OK):
        return False
    if root is None or root.is_mount:
        return False
    with suppress(OSError, KbsyncError):
        return identify(parent).fs_type == root.fs_type
    return False


def _forgotten(installation: Installation) -> Iterator[CheckResult]:
    """Yield a result for documents left behind by forgotten mirrors."""
    from kbsync.engine.status import forgotten_bases

    def read_bases(tx: Tx) -> list[ForgottenBase]:
        names = dict.fromkeys(base.name for base in tx.forgotten.bases())
        return [base for name in names for base in forgotten_bases(tx, name)]

    for forgotten in read_state(installation, read_bases):
        count = format_count(forgotten.documents, "document")
        detail = f"{count} of the forgotten mirror {forgotten.name} remain in {forgotten.base.location}"
        fix = installation.command_line(f"forget {forgotten.name} --delete-documents")
        yield warning("copies", detail, fix)


def _bases_of_former_mirrors(
    installation: Installation, served: Sequence[Path], mirrored: Collection[str]
) -> Iterator[CheckResult]:
    """Yield a result for each built-in knowledge base that no mirror in this config uses.

    Another config may use such a base. A mirror that is added to its config again continues with its own
    base.
    """
    from kbsync.engine.forget import belongings

    # Other files there are not copies, such as the record of which documents in a database are ours.
    bases = sorted({file.parent for file in (installation.state_dir / BASES).glob("*/index.db*")})
    unused = [base for base in bases if not any(places.is_inside(path, base) for path in served)]
    if not unused:
        return
    # The folders of the mirrors in the state, by name; None if there is no state.
    folders: dict[str, str] | None = None
    former, forgotten = set[Path | None](), set[Path | None]()

    def read_owners(tx: Tx) -> dict[str, str]:
        records = tx.mirrors.all()
        former.update(base.folder for record in records for base, _ in belongings(tx, record).elsewhere)
        forgotten.update(base.base.folder for base in tx.forgotten.bases())
        return {record.name: record.folder for record in records}

    with open_state(installation) as state:
        if state.exists:
            folders = state.read(read_owners)
    targets = {
        mirror.name: installation.embedded_base(mirror) or mirror.target.type
        for mirror in installation.config.mirrors
    }
    for base in unused:
        name = base.name
        if folders is None:
            detail = f"{base} is a knowledge base, but its mirror is unknown because the state is missing"
            yield warning("copies", detail)
        elif base in forgotten or not _holds_documents(base):
            continue
        elif name not in folders:
            detail = f"no mirror in the config or the state uses the knowledge base {base}"
            yield warning("copies", detail, installation.command_line(f"forget {name} --delete-documents"))
        elif name in targets:
            detail = f"{name} now uses {targets[name]}; {base} is its former knowledge base"
            end = installation.command_line(f"forget {name} --left-behind") if base in former else ""
            yield warning("copies", detail, end)
        elif str(real_path(Path(folders[name]))) not in mirrored:
            # A mirror of the same folder continues to use the base under its new name.
            detail = f"{base} is the knowledge base of {name}, but {name} is not in this config"
            end = installation.command_line(f"forget {name} --delete-documents")
            yield warning("copies", f"{detail}; if no other config uses it, delete it with: {end}")


def _holds_documents(base: Path) -> bool:
    from kbsync.index.sqlite.store import SqliteStore

    try:
        with closing(SqliteStore(base, writer=None)) as store:
            return store.check()[1] > 0
    except UnmadeError:
        return False


def user() -> str:
    """Return the name of the user who is running kbsync."""
    return lock.user_name(os.geteuid())


def folder(installation: Installation, mirror: MirrorConfig) -> Iterator[CheckResult]:
    """Check that the folder exists and that this user can read the files to mirror."""
    with suppress(OSError):
        try:
            access_within(mirror.folder, mirror.folder.stat)
        except TimeoutError as error:
            fix = "check the network and the file server"
            yield wrong("folder", f"{mirror.folder}: {error.strerror}", fix, Code.PERSON)
            return
    try:
        limits: Formats = limits_of(installation, mirror)
    except (KbsyncError, OSError):
        # The service check reports a target that cannot be opened.
        limits = Formats()
    try:
        contents = scan_mirror(mirror, limits)
    except (FileNotFoundError, NotADirectoryError) as error:
        fix = "mount the folder, or fix its path in the config"
        fault = "does not exist" if isinstance(error, FileNotFoundError) else "is a file"
        yield wrong("folder", f"{mirror.folder} {fault}", fix, Code.PERSON)
        return
    except OSError as error:
        why = system_reason(error)
        fix = _permissions_fix(mirror.folder, mirror.folder)
        yield wrong("folder", f"{mirror.folder} cannot be listed: {why}", fix, Code.PERSON)
        return
    at_least = "" if contents.is_complete else "at least "
    if contents.unreadable:
        first = contents.first_unreadable
        others = contents.unreadable - 1
        more = f" and {at_least}{others:,} more in {mirror.folder}" if others else ""
        detail = f"{user()} cannot read {first}{more}"
        yield wrong("folder", detail, _permissions_fix(mirror.folder, Path(first)), Code.FAILED)
        return
    content = f"{format_count(contents.files, 'file')} in {format_count(contents.folders, 'folder')}"
    yield CheckResult("folder", f"{mirror.folder}: {at_least}{content}")


def _permissions_fix(folder: Path, unreadable: Path) -> str:
    """Return a command that lets this user read everything in `folder`.

    `unreadable`: a file that the user can't read.
    """
    path = shell_word(str(folder))
    with suppress(OSError):
        # An access control list does not apply to the owner of a file.
        if unreadable.stat().st_uid == os.geteuid():
            return f"chmod -R u+rX {path}"
    return f"sudo setfacl --recursive --modify u:{user()}:rX {path}"


def models(mirrors: Sequence[MirrorConfig]) -> Iterator[CheckResult]:
    """Check that each of the user's own embedding models can be loaded.

    Load one at a time, because they may be large.
    """
    from kbsync.index.embed import OnnxEmbedder, onnx_name
    from kbsync.targets.indexed.config import IndexedTargetConfig

    checked = dict[Path, str | Exception]()
    for mirror in mirrors:
        model_path = mirror.target.embedding.path if isinstance(mirror.target, IndexedTargetConfig) else None
        if model_path is None:
            continue
        if model_path not in checked:
            try:
                name = onnx_name(model_path)
                checked[model_path] = (
                    f"{name} in {model_path}: {OnnxEmbedder(model_path).dimensions:,} dimensions"
                )
            except Exception as error:
                checked[model_path] = error
        result, subject = checked[model_path], f"{mirror.name}: embedding model"
        yield CheckResult(subject, result) if isinstance(result, str) else failed_check(subject, result)


def listener(installation: Installation) -> Iterator[CheckResult]:
    """Check that the listener's address is free, or that our daemon is the one using it."""
    import socket

    from kbsync.server.listener import bind_sockets

    http = installation.config.http
    if http is None:
        yield CheckResult("listener", "not configured")
        return
    if not lock.is_held(installation.state_dir):
        for bound in bind_sockets(http.host, http.port):
            bound.close()
        yield CheckResult("listener", f"{http.listen} is free")
        return
    address, process = printable(f"{http.host}:{http.port}"), lock.holder(installation.state_dir)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # noqa: S104 (compared, not listened on)
    try:
        socket.create_connection((host, http.port), timeout=2.0).close()
        yield CheckResult("listener", f"{address} answers")
    except OSError as error:
        why = system_reason(error)
        fix = "restart the daemon that is using this state"
        if process:
            # A daemon starts listening after reloading its config; a pass never listens.
            fix = f"if process {process} is the daemon, reload its config: kill -HUP {process}"
        yield warning("listener", f"kbsync is running but isn't listening on {address} ({why})", fix)


LIBRARIES = (
    *("apsw", "click", "httpx", "numpy", "pypdfium2", "python-calamine", "simsimd", "tokenizers"),
    *("uvicorn", "watchdog"),
)
LITTLE_SPACE, NO_SPACE = 500_000_000, 20_000_000
FEW_INODES, NO_INODES = 5_000, 50


def versions() -> Iterator[CheckResult]:
    """Report the versions of kbsync, Python, SQLite and the main libraries."""
    import apsw

    yield CheckResult(
        "versions",
        f"kbsync {version_and_revision()}, Python {platform.python_version()}, "
        f"SQLite {apsw.sqlitelibversion()}, {platform.system()} {platform.release()}",
    )
    installed, missing = [], []
    for name in LIBRARIES:
        try:
            installed.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        fix = install_command(*missing)
        yield wrong("libraries", f"not installed: {', '.join(missing)}", fix, Code.USAGE)
    else:
        yield CheckResult("libraries", ", ".join(installed))


def disk(state_dir: Path) -> Iterator[CheckResult]:
    """Check the free space and free inodes where the state is or will be."""
    existing = next(folder for folder in (state_dir, *state_dir.parents) if exists(folder))
    space = free_space(existing)
    if space is None:
        return
    fix = f"free some space on the disk of {existing}"
    detail = f"{format_size(space.free_bytes)} free at {state_dir}"
    measures = [("disk", space.free_bytes, LITTLE_SPACE, NO_SPACE, detail, fix)]
    if space.inodes is not None:
        detail = f"{space.inodes:,} inodes free at {state_dir}"
        measures.append(("inodes", space.inodes, FEW_INODES, NO_INODES, detail, fix))
    for subject, remaining, warning_limit, error_limit, detail, fix in measures:
        if remaining < error_limit:
            yield wrong(subject, f"only {detail}", fix, Code.PASSING)
        elif remaining < warning_limit:
            yield warning(subject, f"only {detail}", fix)
        else:
            yield CheckResult(subject, detail)


def inotify(mirrors: Sequence[MirrorConfig]) -> Iterator[CheckResult]:
    """Check that the kernel's inotify limits suffice for all folders together."""
    from kbsync.source.observer import foreseen_obstacle, limit_fix, read_limits, roomy
    from kbsync.source.watch import Machine, survey

    limits, needed, watched_count = read_limits(), 0, 0
    for mirror in mirrors:
        try:
            shared = survey(mirror.folder, Machine()).shared
        except (OSError, KbsyncError):
            continue  # the folder's own check reports it
        obstacle = foreseen_obstacle(mirror.observer, shared, 0, limits)
        if obstacle is not None and obstacle.is_permanent:
            yield CheckResult("inotify", f"kbsync polls {mirror.folder}: {obstacle.why}")
        else:
            watched_count += 1
            needed += scan_mirror(mirror, Formats()).folders
    if limits.watches is None:
        yield warning("inotify", "the inotify limits cannot be read; kbsync may have to poll some folders")
    elif needed * 1.2 >= limits.watches:
        # Reserve a fifth for other programs of the user.
        allowed = f"{limits.watches:,} watches are allowed"
        detail = f"{allowed}, but {needed:,} folders each need a watch; kbsync may have to poll some folders"
        yield warning("inotify", detail, limit_fix("max_user_watches", roomy(needed)))
    else:
        yield CheckResult("inotify", f"{needed:,} of {limits.watches:,} watches needed")
    if limits.instances is not None and limits.instances < max(16, 2 * watched_count):
        detail = f"only {limits.instances} inotify instances are allowed per user"
        yield warning("inotify", detail, limit_fix("max_user_instances", max(1024, 2 * limits.instances)))


def credentials(environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """Yield the names of the credentials that systemd passes to the service (`LoadCredential=`), if any."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        return
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        detail = f"$CREDENTIALS_DIRECTORY: {directory} can't be read ({system_reason(error)})"
        yield wrong("credentials", detail, "unset CREDENTIALS_DIRECTORY", Code.USAGE)
        return
    unreadable = [name for name in names if not os.access(f"{directory}/{name}", os.R_OK)]
    if unreadable:
        # systemd passes them only to the service's user, when the service starts.
        unit = shell_word(Path(directory).name.removesuffix(".service"))
        is_users = "/user/" in directory
        fix = f"systemctl --user restart {unit}" if is_users else f"sudo systemctl restart {unit}"
        yield wrong("credentials", f"cannot be read: {', '.join(unreadable)}", fix, Code.USAGE)
    else:
        yield CheckResult("credentials", f"{directory}: {', '.join(names) or 'none'}")
