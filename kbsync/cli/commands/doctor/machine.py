"""Checks of this machine: config, state, copies, folders, listener, disk, watches, versions, credentials."""

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
from kbsync.cli.commands.doctor.command import CheckResult, warning, wrong
from kbsync.cli.context import list_damaged, look_at
from kbsync.cli.exit_codes import Code
from kbsync.cli.folder_contents import limits_of, look_through
from kbsync.config import places
from kbsync.config.model import Config, MirrorConfig
from kbsync.core.model import Limits, Status
from kbsync.core.selection import Rules
from kbsync.core.text import counted, printable, shell_word, sized
from kbsync.errors import KbsyncError, UnmadeError, UsageError
from kbsync.installation import BASES, Installation
from kbsync.source.roots import identify
from kbsync.state import lock
from kbsync.state.forgotten import ForgottenBase
from kbsync.state.mirrors import MirrorRecord
from kbsync.state.read_only import Tx


def config(installation: Installation) -> Iterator[CheckResult]:
    """Which config is used, and whether others may read a key in it."""
    path = installation.config.path
    if path is None:
        yield CheckResult("config", f"none; --folder {installation.config.mirrors[0].folder}")
        return
    yield CheckResult("config", str(path))
    for file in (path, *_secret_files(path)):
        try:
            is_open = bool(file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
        except OSError:
            continue
        if is_open and _may_hold_secrets(file):
            cure = f"chmod o-rwx {shell_word(str(file))}"
            yield warning("config", f"every user can read {file}, which may hold a secret", cure)


def _may_hold_secrets(file: Path) -> bool:
    """A config with a key written out, or any other file: it was named because it holds one."""
    if file.suffix not in (".yaml", ".yml"):
        return True
    text = file.read_text("utf-8", "replace")
    # As `password=…` or in a URL as `//user:…@host`.
    if re.search(r"(?m)^[^#\n]*\bdsn\s*:.*(?:\bpassword\s*=|://[^\s/@:]*:)\s*(?!\$\{)[^\s@]", text):
        return True
    keys = re.findall(r"(?m)^[^#\n]*\b(?:api_key|token|proxy|url)\s*:\s*(\S+)", text)
    return any(not key.strip("\"'").startswith("${") for key in keys)


def _secret_files(config_file: Path) -> Iterator[Path]:
    """Files named by settings that end in `_file`, except certificates, which are no secret."""
    import yaml

    def walk(value: object) -> Iterator[Path]:
        if isinstance(value, dict):
            for key, each in value.items():
                if str(key).endswith("_file") and key != "ca_file" and isinstance(each, str):
                    yield config_file.parent / os.path.expanduser(each)  # noqa: PTH111 (as configs are read)
                else:
                    yield from walk(each)
        elif isinstance(value, list):
            for each in value:
                yield from walk(each)

    yield from walk(yaml.safe_load(config_file.read_bytes()))


def state(installation: Installation) -> Iterator[CheckResult]:
    """The state directory can be used, and the state in it can be read."""
    from kbsync.state.lock import cure_of, fault_of, strange

    place = installation.state_dir
    places.check_state_dir(place, [mirror.folder for mirror in installation.config.mirrors], create=False)
    if mount := places.read_only_mount(place):
        cure = f"sudo mount -o remount,rw {shell_word(str(mount))}"
        yield wrong("state", f"{place} is on a file system that is mounted read-only", cure, Code.USAGE)
        return
    if not place.exists():
        above = next(each for each in place.parents if each.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield CheckResult("state", f"{place}; the first pass creates it")
        else:
            cure = f"sudo install -d -m 700 -o {user()} {shell_word(str(place))}"
            yield wrong("state", f"{place} cannot be created by {user()}", cure, Code.USAGE)
        return
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        cure = f"sudo chown -R {user()} {shell_word(str(place))}"
        yield wrong("state", f"{place} cannot be written by {user()}", cure, Code.USAGE)
        return
    if place.stat().st_mode & stat.S_IWOTH:
        # A pass refuses it too.
        cure = f"chmod go-rwx {shell_word(str(place))}"
        yield wrong("state", f"everybody may write into the state directory {place}", cure, Code.USAGE)
    elif place.stat().st_mode & 0o077:
        cure = f"chmod go-rwx {shell_word(str(place))}"
        yield warning("state", f"other users can look into {place}", cure)
    if astray := list(strange(place)):
        # Left by a command that ran as another user: the next pass would fail over it.
        more = f"; and {len(astray) - 1:,} more" if len(astray) > 1 else ""
        yield wrong("state", f"{fault_of(place, astray[0])}{more}", cure_of(place, astray[0]), Code.USAGE)
        return
    found = look_at(installation)
    found.close()
    news = "" if found.exists else ", nothing mirrored yet"
    yield CheckResult("state", f"{place}{news}{'; kbsync is running' if lock.is_held(place) else ''}")


def copies(installation: Installation) -> Iterator[CheckResult]:
    """Documents on this machine that no mirror of this config keeps up to date.

    The only cure is `kbsync forget`, which shows what it would delete and asks.
    """
    served = [base for each in installation.config.mirrors if (base := installation.embedded_base(each))]
    mirrored = {os.path.realpath(mirror.folder) for mirror in installation.config.mirrors}
    with closing(look_at(installation)) as state:
        records = state.read(lambda tx: tx.mirrors.all())
    # Whatever the config says, without a pass nothing is mirrored here.
    copied = {each.folder for each in records if each.last_pass is not None and each.folder in mirrored}
    found = [
        *_states_of_folder_option(installation, served, mirrored, copied),
        *_forgotten(installation),
        *_bases_of_former_mirrors(installation, served, mirrored),
    ]
    for file in list_damaged(installation):
        # It may hold texts of files that were deleted since.
        detail = f"{file} was set aside as damaged, for anybody who wants to inspect it"
        found.append(warning("copies", detail, installation.cure("state discard")))
    yield from found or [CheckResult("copies", "none")]


def _states_of_folder_option(
    installation: Installation,
    served: Sequence[Path],
    mirrored: Collection[str],
    copied: Collection[str],
) -> Iterator[CheckResult]:
    """Mirrors of `--folder` whose folder this config mirrors too, or is not there, and what they left.

    `copied`: folders whose documents are in a knowledge base of this config.
    """
    try:
        below = places.state_home(os.environ)
    except UsageError:
        return
    used = [installation.state_dir, *served]
    for place in sorted((below / "folders").glob("*/")):
        # This config or a running kbsync works on it.
        if any(places.is_inside(each, place) for each in used) or lock.is_held(place):
            continue
        other = Installation(Config(mirrors=()), place, ("--state-dir", str(place)))
        try:
            if other.state_file.exists():
                yield from _documents_in(other, mirrored, copied)
                yield from _forgotten(other)
        except KbsyncError as error:
            yield warning("copies", f"{place} cannot be read: {error}")


def _documents_in(
    other: Installation, mirrored: Collection[str], copied: Collection[str]
) -> Iterator[CheckResult]:
    """Mirrors of another state whose folder is mirrored here, or is not there."""
    from kbsync.engine.forget import belongings

    def look(tx: Tx) -> list[tuple[MirrorRecord, int, int]]:
        return [
            (each, belongings(tx, each).documents, tx.mirrors.tally(each.id).get(Status.HELD, 0))
            for each in tx.mirrors.all()
        ]

    with closing(look_at(other)) as state:
        found = state.read(look)
    for record, documents, held in found:
        if record.folder in mirrored:
            why, may_end = f"{record.folder} is also mirrored with --folder", record.folder in copied
        elif not os.path.lexists(record.folder):
            why, may_end = f"{record.folder} is not there", _is_surely_gone(record)
        else:
            continue
        waiting = f", {counted(held, 'deletion')} waiting for approval" if held else ""
        detail = f"{why}: {counted(documents, 'document')} in {other.state_dir}{waiting}"
        # What is held is in no other place.
        end = other.cure(f"forget {record.name} --delete-documents") if may_end and not held else ""
        yield warning("copies", detail, end)


def _is_surely_gone(record: MirrorRecord) -> bool:
    """No disk that is missing explains why the mirror's folder is not there: its parent can be read."""
    parent, root = Path(record.folder).parent, record.root
    if not parent.is_dir() or not os.access(parent, os.R_OK | os.X_OK):
        return False
    if root is None or root.is_mount:
        return False
    with suppress(OSError, KbsyncError):
        return identify(parent).fs_type == root.fs_type
    return False


def _forgotten(installation: Installation) -> Iterator[CheckResult]:
    """Documents that forgotten mirrors left."""
    from kbsync.engine.status import forgotten_bases

    def look(tx: Tx) -> list[ForgottenBase]:
        names = dict.fromkeys(each.name for each in tx.forgotten.bases())
        return [base for name in names for base in forgotten_bases(tx, name)]

    with closing(look_at(installation)) as state:
        found = state.read(look)
    for each in found:
        left = f"{counted(each.documents, 'document')} of {each.name}, which was forgotten"
        cure = installation.cure(f"forget {each.name} --delete-documents")
        yield warning("copies", f"{left}, still in {each.base.place}", cure)


def _bases_of_former_mirrors(
    installation: Installation, served: Sequence[Path], mirrored: Collection[str]
) -> Iterator[CheckResult]:
    """Built-in knowledge bases that no mirror of this config uses.

    Another config may use it, and a mirror that comes back into its config continues with it.
    """
    # What else may be there, such as the proof whose documents in a database are ours, is no copy.
    bases = sorted({file.parent for file in (installation.state_dir / BASES).glob("*/index.db*")})
    left = [base for base in bases if not any(places.is_inside(each, base) for each in served)]
    if not left:
        return
    # The mirrors that the state knows; None without a state.
    folders: dict[str, str] | None = None
    with closing(look_at(installation)) as state:
        if state.exists:
            folders, forgotten, behind = state.read(_whose_bases)
    targets = {
        mirror.name: installation.embedded_base(mirror) or mirror.target.type
        for mirror in installation.config.mirrors
    }
    for base in left:
        name = base.name
        if folders is None:
            yield warning("copies", f"{base} is a knowledge base, and there is no state that says whose")
        elif base in forgotten or not _holds_documents(base):
            continue
        elif name not in folders:
            detail = f"{base} is the knowledge base of no mirror that the config or the state knows"
            yield warning("copies", detail, installation.cure(f"forget {name} --delete-documents"))
        elif name in targets:
            detail = f"{name} is mirrored into {targets[name]}; {base} is the base it had before"
            end = installation.cure(f"forget {name} --left-behind") if base in behind else ""
            yield warning("copies", detail, end)
        elif os.path.realpath(folders[name]) not in mirrored:
            # A mirror of the same folder carries the base on under its new name.
            detail = f"{base} is the knowledge base of {name}, and {name} is not in this config"
            end = installation.cure(f"forget {name} --delete-documents")
            yield warning("copies", f"{detail}; if it is in no other config either, end it with: {end}")


def _whose_bases(tx: Tx) -> tuple[dict[str, str], set[Path | None], set[Path | None]]:
    """The folders of the known mirrors by name, bases of forgotten ones, and bases that were used before."""
    from kbsync.engine.forget import belongings

    records = tx.mirrors.all()
    behind = {base.folder for each in records for base, _ in belongings(tx, each).elsewhere}
    forgotten = {each.base.folder for each in tx.forgotten.bases()}
    return {each.name: each.folder for each in records}, forgotten, behind


def _holds_documents(base: Path) -> bool:
    from kbsync.index.sqlite.store import SqliteStore

    try:
        with closing(SqliteStore(base, writer=None)) as store:
            return store.look()[1] > 0
    except UnmadeError:
        return False


def user() -> str:
    """The user who runs this."""
    from kbsync.state.lock import user_name

    return user_name(os.geteuid())


def folder(installation: Installation, mirror: MirrorConfig) -> Iterator[CheckResult]:
    """The folder exists, and the user who runs this can read what is to be mirrored of it."""
    subject = f"{mirror.name}: folder"
    try:
        limits = limits_of(installation, mirror)
    except (KbsyncError, OSError):
        # The check of the service says that the target cannot be opened.
        limits = Limits()
    try:
        contents = look_through(mirror.folder, Rules(mirror.include, mirror.exclude, limits))
    except FileNotFoundError:
        cure = "mount it, or correct `folder` in the config"
        yield wrong(subject, f"{mirror.folder} does not exist", cure, Code.PERSON)
        return
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        cure = _cure_of_rights(mirror.folder, mirror.folder)
        yield wrong(subject, f"{mirror.folder} cannot be listed: {why}", cure, Code.PERSON)
        return
    more = "" if contents.is_complete else " at least"
    if contents.unreadable:
        first = contents.first_unreadable
        detail = f"{contents.unreadable:,}{more} in it cannot be read by {user()}, the first is {first}"
        yield wrong(subject, detail, _cure_of_rights(mirror.folder, Path(first)), Code.FAILED)
        return
    content = f"{counted(contents.files, 'file')} in {counted(contents.folders, 'folder')}"
    yield CheckResult(subject, f"{mirror.folder}: {content}{more}")


def _cure_of_rights(folder: Path, shut: Path) -> str:
    """A command that lets this user read all of `folder`; `shut` is a file that it cannot read."""
    place = shell_word(str(folder))
    with suppress(OSError):
        # An access control list gives the owner of a file nothing.
        if shut.stat().st_uid == os.geteuid():
            return f"chmod -R u+rX {place}"
    return f"sudo setfacl --recursive --modify u:{user()}:rX {place}"


def listener(installation: Installation) -> Iterator[CheckResult]:
    """The address is free, or our daemon listens on it."""
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
    shown, process = printable(f"{http.host}:{http.port}"), lock.holder(installation.state_dir)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # noqa: S104 (compared, not listened on)
    try:
        socket.create_connection((host, http.port), timeout=2.0).close()
        yield CheckResult("listener", f"{shown} answers")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        cure = "restart the daemon that holds the state"
        if process:
            # A daemon listens once it has read its config again; a pass never does.
            cure = f"if process {process} is the daemon, have it read its config again: kill -HUP {process}"
        yield warning("listener", f"kbsync is running, but does not listen on {shown} ({why})", cure)


LIBRARIES = ("apsw", "click", "httpx", "kreuzberg", "numpy", "tokenizers", "uvicorn", "watchdog")
LITTLE_SPACE, NO_SPACE = 500_000_000, 20_000_000
FEW_INODES, NO_INODES = 5_000, 50


def versions() -> Iterator[CheckResult]:
    """Versions of this program, of Python, SQLite and the main libraries."""
    import apsw

    yield CheckResult(
        "versions",
        f"kbsync {version_and_revision()}, Python {platform.python_version()}, "
        f"SQLite {apsw.sqlitelibversion()}, {platform.system()} {platform.release()}",
    )
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        cure = install_command(*missing)
        yield wrong("libraries", f"not installed: {', '.join(missing)}", cure, Code.USAGE)
    else:
        yield CheckResult("libraries", ", ".join(found))


def disk(place: Path) -> Iterator[CheckResult]:
    """Free space and inodes where the state is, or will be."""
    there = next(each for each in (place, *place.parents) if each.exists())
    stat = os.statvfs(there)
    free, inodes = stat.f_bavail * stat.f_frsize, stat.f_favail
    detail, cure = f"{sized(free)} free at {place}", f"delete files that nobody needs on the disk of {there}"
    found = [("disk", free, LITTLE_SPACE, NO_SPACE, detail, cure)]
    # On btrfs and others there are as many inodes as there is space for, and none are counted.
    if stat.f_files:
        detail = f"{inodes:,} inodes free at {place}"
        found.append(("inodes", inodes, FEW_INODES, NO_INODES, detail, cure))
    for subject, left, few, none, detail, cure in found:
        if left < none:
            yield wrong(subject, f"only {detail}", cure, Code.PASSING)
        elif left < few:
            yield warning(subject, f"only {detail}", cure)
        else:
            yield CheckResult(subject, detail)


def inotify(mirrors: Sequence[MirrorConfig]) -> Iterator[CheckResult]:
    """The kernel's limits are high enough for all folders together."""
    from kbsync.config.places import network_file_system
    from kbsync.source.observer import cure, read_limits, roomy

    watched = [mirror for mirror in mirrors if mirror.observer != "polling" and mirror.folder.is_dir()]
    for mirror in list(watched):
        kind = network_file_system(mirror.folder)
        if kind is not None and mirror.observer == "auto":
            watched.remove(mirror)
            yield CheckResult(
                "inotify", f"{mirror.folder} is on {kind}, which tells of no changes; it is polled"
            )
    looks = (look_through(each.folder, Rules(each.include, each.exclude, Limits())) for each in watched)
    limits, needed = read_limits(), sum(contents.folders for contents in looks)
    if limits.watches is None:
        yield warning("inotify", "the limits cannot be read; folders may be polled")
    elif needed * 1.2 >= limits.watches:
        # A fifth is left for other programs of the user.
        detail = (
            f"{limits.watches:,} watches are allowed, {needed:,} folders need one each; some may be polled"
        )
        yield warning("inotify", detail, cure("max_user_watches", roomy(needed)))
    else:
        yield CheckResult("inotify", f"{needed:,} of {limits.watches:,} watches needed")
    if limits.instances is not None and limits.instances < max(16, 2 * len(watched)):
        detail = f"a user's programs may have only {limits.instances} instances together"
        yield warning("inotify", detail, cure("max_user_instances", max(1024, 2 * limits.instances)))


def credentials(environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """Names of the credentials that systemd passes on (`LoadCredential=`), if any."""
    place = environ.get("CREDENTIALS_DIRECTORY")
    if place is None:
        return
    names = sorted(os.listdir(place))
    unreadable = [name for name in names if not os.access(f"{place}/{name}", os.R_OK)]
    if unreadable:
        # systemd passes them on when it starts a service, to the user of that service alone.
        unit = shell_word(Path(place).name.removesuffix(".service"))
        cure = f"systemctl --user restart {unit}" if "/user/" in place else f"sudo systemctl restart {unit}"
        yield wrong("credentials", f"cannot be read: {', '.join(unreadable)}", cure, Code.USAGE)
    else:
        yield CheckResult("credentials", f"{place}: {', '.join(names) or 'none'}")
