"""Opens the config, folder, state, inbox and targets (read-only) for a command, and resolves the paths that
users type.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kbsync.cli.exit_codes import MirrorError, concerning
from kbsync.cli.mirrored import find_mirrored
from kbsync.cli.options import Choices
from kbsync.cli.output import route_messages
from kbsync.config import places
from kbsync.config.folder_options import FolderOptions, apply_options, recall, remember
from kbsync.config.model import Needs, folder_config
from kbsync.core.text import format_list, printable
from kbsync.errors import Halted, KbsyncError, LockedError, StateError, UnmadeError, UsageError
from kbsync.file_systems import access_within, real_path
from kbsync.permissions import access_fix, exists
from kbsync.state import lock

if TYPE_CHECKING:
    from kbsync.config.model import Config, MirrorConfig
    from kbsync.contract.target import Target
    from kbsync.engine.clock import Clock
    from kbsync.engine.plan import CommandContext
    from kbsync.engine.settings import MirrorSettings
    from kbsync.installation import Installation
    from kbsync.state.mirrors import MirrorRecord
    from kbsync.state.read_only import ReadOnlyState, SnapshotReader, Tx


MirrorPath = tuple[str, str]
"""A mirror's name and a path below its root; '' is the root itself."""


def resolve(
    typed: str, mirrors: Sequence[MirrorConfig], is_known: Callable[[str, str], bool], cwd: Path | None = None
) -> list[MirrorPath]:
    """Return the locations that a user in `cwd` (None: the working directory) may mean by `typed`.

    All commands that take a path use this. `typed` is resolved against the directory, then against each
    mirror's folder. Paths that exist or are in the state (`is_known`) come first. If several mirrors contain
    the path, all of their locations are returned; if none does, the list is empty.
    """
    roots = {mirror.name: real_path(mirror.folder) for mirror in mirrors}
    absolute = _real((cwd or Path.cwd()) / typed)
    candidates = [(name, _below(root, absolute)) for name, root in roots.items()]
    from_cwd = [(name, below) for name, below in candidates if below is not None]
    candidates = [(name, _below(root, _real(root / typed, root))) for name, root in roots.items()]
    from_roots = [(name, below) for name, below in candidates if below is not None]
    for paths in (from_cwd, from_roots):
        existing = [
            (name, path) for name, path in paths if exists_in(roots[name], path) or is_known(name, path)
        ]
        if existing:
            return existing
    # The user means an existing file outside all mirrors rather than a missing file in the mirror.
    is_outside = not from_cwd and os.path.lexists(absolute)
    return from_cwd or (from_roots if len(roots) == 1 and not is_outside else [])


def recorded_mirrors(installation: Installation, tx: Tx) -> dict[str, MirrorRecord]:
    """Return the state's rows for the requested mirrors, by name. Raises `UsageError` if there are none."""
    records = {m.name: record for m in installation.mirrors if (record := tx.mirrors.named(m.name))}
    if not records:
        raise not_yet(installation)
    return records


def is_known(tx: Tx, mirror: int, path: str) -> bool:
    """Return whether the state has a file or a directory at `path`."""
    return tx.entries.get(mirror, path) is not None or tx.folders.get(mirror, path) is not None


def exists_in(root: Path, path: str) -> bool:
    """Return whether the folder `root` is known to have something at `path`."""
    try:
        return access_within(root, lambda: os.path.lexists(root / path))
    except TimeoutError:
        return False


def _real(path: Path, root: Path | None = None) -> Path:
    """Return the real path, like `real_path`. `root`: the mirrored folder that contains `path`, if known."""
    # Follows symlinks of directories, but not of the file itself, since the user may mean the symlink.
    folder, name = os.path.split(os.path.normpath(path))
    return real_path(Path(folder), root) / name


def _below(root: Path, path: Path) -> str | None:
    """Return the path relative to `root`: '' for the root or a symlink to it, None for a path outside it."""
    if path == root or (not path.is_relative_to(root) and real_path(path) == root):
        return ""
    return str(path.relative_to(root)) if path.is_relative_to(root) else None


T = TypeVar("T")


def choose(
    choices: Choices,
    *,
    here: bool = False,
    with_secrets: bool = True,
    with_bases: bool = True,
    with_mirrors: bool = True,
    with_folders: bool | None = None,
    mistyped: bool = False,
) -> Installation:
    """Find the config and the state from the options, the environment and the default locations, without
    creating a file.

    `here`: without a config and `--folder`, use the known folder that contains the working directory.
    `with_secrets`: require keys; a command that calls no service needs none. `with_bases`: require ids of
    knowledge bases; commands that list or create one need none. `with_mirrors`: require mirrors; a command
    that adds one needs none. `with_folders`: refuse a file that has replaced a mirrored folder; by default,
    with `here` the command accepts it, so that `status` can show the halted mirror. `mistyped`: accept a
    `--folder` that does not exist and was never mirrored.
    Raises `UsageError` if nothing names a folder, for an invalid config and for an unknown `--mirror`.
    """
    if choices.folder is None and _folder_options(choices) != FolderOptions():
        raise UsageError(
            "--target, --url, --base and --exclude need --folder DIR; a config has its own settings for these"
        )
    if choices.config is not None and choices.folder is not None:
        raise UsageError("--config and --folder cannot be used together; --folder replaces a config")
    environ = os.environ
    needs = Needs(with_secrets, with_bases, with_mirrors, not here if with_folders is None else with_folders)
    if choices.folder is not None:
        chosen = _of_folder(choices, choices.folder, needs, mistyped=mistyped)
    elif (file := places.find_config(choices.config, environ)) is not None:
        chosen = _of_config(choices, file, needs)
    elif here and (known := _known_folder_here()) is not None:
        chosen = _of_folder(choices, known, needs, mistyped=True)
    else:
        raise UsageError(_nothing_found(choices, here))
    # Raise for an unknown name before doing anything.
    _ = chosen.mirrors
    return dataclasses.replace(chosen, former_names=_find_former_names(chosen))


def _known_folder_here() -> Path | None:
    """Return the innermost known folder that contains the working directory. Raises OSError if that was
    deleted.
    """
    known = places.known_folder_for(Path.cwd(), places.find_state_home(os.environ))
    return None if known is None else known.folder


def _find_former_names(installation: Installation) -> Mapping[str, str]:
    """Return the names under which the state still records mirrors that were renamed in the config since
    the last pass.
    """
    if installation.config.path is None:
        return {}
    from kbsync.state.read_only import opened

    names = {mirror.name for mirror in installation.config.mirrors}
    every = dataclasses.replace(installation, only=())
    try:
        with closing(opened(installation.state_file)) as state:
            recorded = state.read(lambda tx: {record.name for record in tx.mirrors.all()})
            if names <= recorded or recorded <= names:
                return {}
            records = state.read(lambda tx: find_records(tx, every))
        return {name: record.name for name, record in records if record.name != name}
    except (KbsyncError, OSError):
        # The command itself reports the error when it opens the state.
        return {}


def choose_all(choices: Choices) -> list[Installation]:
    """Return the result of `choose`. If the options select nothing, return an installation for each folder of
    earlier `--folder` runs instead.

    Each of those has its own state. Raises the same `UsageError` as `choose`.
    """
    is_named = choices.config or choices.folder or choices.state_dir
    if is_named or places.find_config(None, os.environ) is not None:
        return [choose(choices, here=True, with_secrets=False)]
    folders = places.known_folders(places.find_state_home(os.environ))
    if not folders or _known_folder_here() is not None:
        return [choose(choices, here=True, with_secrets=False)]
    from kbsync.installation import check_names

    every = dataclasses.replace(choices, mirrors=())
    needs = Needs(secrets=False, folders=False)
    chosen = [_of_folder(every, record.folder, needs, mistyped=True) for record in folders]
    mirrors = [mirror for installation in chosen for mirror in installation.config.mirrors]
    check_names(choices.mirrors, mirrors)
    requested = choices.mirrors or [mirror.name for mirror in mirrors]
    return [installation for installation in chosen if installation.config.mirrors[0].name in requested]


def _of_folder(choices: Choices, folder: Path, needs: Needs, *, mistyped: bool) -> Installation:
    """Return the mirror of this folder or of a folder that contains it. If there is none, return a new one.

    A folder is identified by its real path, so it has only one mirror, no matter how many symlinks lead to
    it.
    """
    from kbsync.installation import Installation

    from_command = _folder_options(choices)
    path = Path(os.path.expanduser(folder))  # noqa: PTH111 (an unknown ~user is a name)
    try:
        real, is_responding = Path(access_within(path, lambda: os.path.realpath(path))), True
    except TimeoutError:
        real, is_responding = Path(os.path.abspath(path)), False  # noqa: PTH100
    is_file = places.is_no_directory(real)
    not_a_folder = UsageError(f"--folder: {folder} is a file; choose a folder")
    if is_file and needs.folders:
        raise not_a_folder
    if choices.state_dir is None and (mirrored := find_mirrored(real, os.environ)) is not None:
        if is_file and mirrored.root != real:
            raise not_a_folder
        if mirrored.config is not None:
            if from_command != FolderOptions():
                raise UsageError(f"{real} is a mirror in {mirrored.config}; change its settings there")
            chosen = _of_config(choices, mirrored.config, needs)
            return dataclasses.replace(chosen, only=choices.mirrors or mirrored.names)
        real = mirrored.root
    state_dir = places.state_dir(os.environ, explicit=choices.state_dir, folder=real)
    flags = ("--folder", str(real), *_state_flags(choices.state_dir))
    config, options = folder_config(real), from_command.over(recall(state_dir))
    [mirror] = config.mirrors
    mirror = apply_options(mirror, options, os.environ, needs)
    config = dataclasses.replace(config, mirrors=(mirror,))
    chosen = Installation(config, state_dir, flags, choices.mirrors)
    # A missing folder that was mirrored before may come back, so its mirror halts. Any other is a mistake
    # (exit 2).
    if not exists(chosen.state_file):
        if is_file:
            raise not_a_folder
        if not is_responding and not mistyped:
            # The folder may have a state that is found only by its real path.
            detail = f"{real}: its file system isn't responding; check the network and the file server"
            raise Halted("folder-missing", printable(detail))
        if not mistyped and not os.path.lexists(real):
            raise UsageError(f"no such folder: {printable(str(real))}")
    return chosen


def _folder_options(choices: Choices) -> FolderOptions:
    return FolderOptions(choices.target, choices.url, choices.base, choices.exclude)


def _of_config(choices: Choices, file: Path, needs: Needs) -> Installation:
    from kbsync.config.reader import load_content, read_content
    from kbsync.installation import Installation

    environ = os.environ
    file = Path(os.path.abspath(file))  # noqa: PTH100 (Path.absolute keeps `..`)
    # Read only once: it may be a pipe, or change meanwhile.
    content = read_content(file)
    try:
        config = load_content(file, content, environ, needs)
    except UsageError as error:
        if not needs.bases:
            raise
        try:
            load_content(file, content, environ, dataclasses.replace(needs, bases=False))
        except UsageError:
            # The config has problems other than missing ids.
            raise error from None
        raise UsageError(
            f"{error}\nto list the account's knowledge bases: {choices.typed('kb list')}\nor to create "
            f"one: {choices.typed('kb create NAME')}"
        ) from error
    state_dir = places.state_dir(environ, explicit=choices.state_dir, config=config)
    # A command to paste names the config and state only if they are not in their default locations.
    named = choices.config is not None or environ.get("KBSYNC_CONFIG")
    elsewhere = choices.state_dir
    if elsewhere is None and is_set_by_systemd(state_dir, config):
        elsewhere = state_dir
    flags = (*(("--config", str(config.path)) if named else ()), *_state_flags(elsewhere))
    return Installation(config, state_dir, flags, choices.mirrors)


def is_set_by_systemd(state_dir: Path, config: Config) -> bool:
    """Return whether the config uses `state_dir` only because $STATE_DIRECTORY is set.

    systemd sets the variable each time it starts the service; all other commands need to be given the
    path.
    """
    if not os.environ.get("STATE_DIRECTORY"):
        return False
    usual = {name: value for name, value in os.environ.items() if name != "STATE_DIRECTORY"}
    try:
        return places.state_dir(usual, config=config) != state_dir
    except UsageError:
        # No home directory is known.
        return True


def _state_flags(state_dir: Path | None) -> tuple[str, ...]:
    return () if state_dir is None else ("--state-dir", os.path.abspath(state_dir))  # noqa: PTH100


def _no_known_folder(state_home: Path | None) -> str:
    if state_home is not None:
        try:
            os.scandir(state_home).close()
        except PermissionError:
            what = f"{printable(str(state_home))} can't be read (permission denied)"
            return f"{what}; {access_fix(state_home)}"
        except OSError:
            pass
    return "no earlier run used --folder"


def _nothing_found(choices: Choices, here: bool) -> str:
    """Return an error message with the places that were searched and the command to run instead."""
    candidates = places.config_places(os.environ)
    unreadable = [path for path in candidates if places.is_unreadable_system_config(path)]
    searched = ", ".join(f"{path} (not readable)" if path in unreadable else str(path) for path in candidates)
    lines = [f"no config found, and no --folder given; searched: --config, $KBSYNC_CONFIG, {searched}"]
    lines += (f"to use {path}, run the command with sudo" for path in unreadable)
    if here:
        home = places.find_state_home(os.environ)
        folders = places.known_folders(home)
        names = ", ".join(printable(str(folder.folder)) for folder in folders)
        is_in_none = f"{Path.cwd()} isn't in any of the known folders: {names}"
        lines.append(is_in_none if folders else _no_known_folder(home))
    else:
        # A pass never guesses a folder, because the working directory may be anything; the message suggests
        # it.
        with suppress(OSError):  # it may have been deleted
            folder = _known_folder_here() or Path.cwd()
            command = dataclasses.replace(choices, folder=folder).typed("--once")
            lines.append(f"to mirror the current folder once, run: {command}")
    lines.append("pass a folder with --folder DIR, or write a config with: kbsync init DIR")
    return "\n".join(lines)


def reload(installation: Installation) -> Installation:
    """Reload the config, and return the installation with it. Raises `UsageError`.

    A file that has replaced a folder of the current config is accepted: only its own mirror halts.
    """
    path = installation.config.path
    if path is None:
        return installation
    from kbsync.config.reader import load

    before = {mirror.folder for mirror in installation.config.mirrors}
    config = load(path, os.environ, Needs(folders=False))
    if any(
        mirror.folder not in before and places.is_no_directory(mirror.folder) for mirror in config.mirrors
    ):
        config = load(path, os.environ)
    fresh = dataclasses.replace(installation, config=config)
    moved = fresh.config.state_dir
    if moved is not None and moved != installation.config.state_dir:
        # The daemon refuses that: it holds the lock of the state it started with.
        return dataclasses.replace(fresh, state_dir=moved)
    check_state_location(fresh)
    return fresh


def prepare(installation: Installation, choices: Choices | None = None) -> None:
    """Prepare the state directory for a pass. Raises `UsageError` if it can't hold a state.

    `choices`: the options for the folder, which are stored for later commands.
    """
    check_state_location(installation)
    if "--folder" in installation.flags:
        # So that later commands in the folder need no options.
        places.note_folder(installation.state_dir, installation.config.mirrors[0].folder)
        earlier = recall(installation.state_dir)
        options = earlier if choices is None else _folder_options(choices).over(earlier)
        # Not while kbsync runs: it uses the earlier options, and this run will be refused.
        if options != earlier and not lock.is_held(installation.state_dir):
            remember(installation.state_dir, options)


def check_state_location(installation: Installation, *, create: bool = True) -> None:
    """Raise `UsageError` if the state directory can't hold the state of these mirrors.

    `create`: see `check_state_dir`.
    """
    folders = [mirror.folder for mirror in installation.config.mirrors]
    places.check_state_dir(installation.state_dir, folders, create=create)


def read_state(installation: Installation, read: Callable[[Tx], T], *, must_exist: bool = False) -> T:
    """Open the state in the same way as `open_state`, and run `read` on it."""
    with open_state(installation, must_exist=must_exist) as state:
        return state.read(read)


def reader(installation: Installation) -> SnapshotReader:
    """Return a version of `read_state` for coroutines.

    Each read runs in a thread, on a connection that is closed there. A read that never returns, for example
    on a dead mount, may therefore outlive a caller that stopped waiting.
    """
    from kbsync.threads import in_thread

    async def read(work: Callable[[Tx], T]) -> T:
        return await in_thread(read_state, installation, work)

    return read


@contextmanager
def open_state(installation: Installation, *, must_exist: bool = False) -> Iterator[ReadOnlyState]:
    """Open the state for reading. It is empty if nothing has been mirrored yet.

    This takes no lock and writes nothing. Raises `StateError` with the command to run, and `UsageError` if
    the directory can't hold a state. With `must_exist`, raises `UsageError` instead of returning an empty
    state.
    """
    from kbsync.state.db import DamagedError
    from kbsync.state.read_only import opened

    try:
        state = opened(installation.state_file)
    except DamagedError as error:
        fix = f"to set it aside and start with an empty one, run: {installation.command_line('--once')}"
        raise StateError(f"{error.what}; {fix}") from error
    except StateError:
        if not os.access(installation.state_file, os.R_OK):
            # Not a temporary problem: report it as a pass does.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), installation.state_file) from None
        raise
    with closing(state):
        if not state.exists:  # otherwise a missing disk would look like a fresh start
            places.check_state_dir(installation.state_dir, create=False)
        if must_exist and not state.exists:
            raise not_yet(installation)
        if installation.former_names:
            state.rename_mirrors({former: name for name, former in installation.former_names.items()})
        yield state


def list_damaged(installation: Installation) -> list[Path]:
    """Return the state files and built-in knowledge bases that were set aside because they were damaged."""
    from kbsync.state.db import list_set_aside

    bases = (installation.embedded_base(mirror) for mirror in installation.config.mirrors)
    folders = dict.fromkeys([installation.state_dir, *filter(None, bases)])
    return [file for folder in folders for file in list_set_aside(folder)]


def not_yet(installation: Installation) -> UsageError:
    """Return the error for a state without mirrored files, including the command to run unless kbsync is
    already running.
    """
    from kbsync.engine.status import describe_forgotten, forgotten_bases

    def find_forgotten(tx: Tx) -> list[str]:
        bases = (base for mirror in installation.mirrors for base in forgotten_bases(tx, mirror.name))
        return [f"{base.name} is {describe_forgotten(base, installation.command_line)}" for base in bases]

    if forgotten := read_state(installation, find_forgotten):
        once = f"to mirror it again: {installation.command_line('--once')}"
        return UsageError(printable("; ".join([*forgotten, once])))
    folders = [printable(str(mirror.folder)) for mirror in installation.mirrors]
    verb = "has" if len(folders) == 1 else "have"
    return UsageError(f"{format_list(folders)} {verb} not been mirrored yet; {_pass(installation)}")


@contextmanager
def unmade(installation: Installation) -> Iterator[None]:
    """Add the command that runs a pass to an error about something that only a pass creates."""
    try:
        yield
    except UnmadeError as error:
        raise UsageError(f"{error}; {_pass(installation, 'kbsync is working on it')}") from error


def _pass(installation: Installation, under_way: str = "") -> str:
    """Return what to do about something that only a pass creates.

    `under_way`: what the running kbsync is doing; by default, its first pass.
    """
    names = [mirror.name for mirror in installation.mirrors]
    if (left_out := find_left_out(installation, names)) == names:
        return lock.describe_left_out(left_out)
    if lock.is_held(installation.state_dir):
        from kbsync.engine.status import in_words, with_retry_command

        write = installation.command_line
        halted = [
            f"{name} is halted: {in_words(with_retry_command(record.halt, name, write, at_work=True))}"
            for name, record in read_state(installation, lambda tx: find_records(tx, installation))
            if record.halt is not None
        ]
        if len(halted) == len(names):
            return printable("; ".join(halted))
        if not under_way:
            from kbsync.freshness import freshness_reader

            reports = read_state(installation, freshness_reader(installation, installation.mirrors))
            under_way = max(reports, key=lambda report: report.found).first_pass
        return f"{under_way}; check progress: {installation.command_line('status')}"
    return f"run: {installation.command_line('--once')}"


def mirror_names(choices: Choices) -> list[str]:
    """Return the names in the config, for shell completion, or none if the config can't be read."""
    try:
        chosen = choose(dataclasses.replace(choices, mirrors=()), here=True, with_secrets=False)
    except (UsageError, OSError):
        return []
    return [mirror.name for mirror in chosen.config.mirrors]


def set_up_logs(choices: Choices) -> None:
    """Log only problems, because the command only reads.

    The log is text, like our messages, unless `--log-format json` is given.
    """
    from kbsync import logs

    def log_message(text: str, error: BaseException | None) -> None:
        logs.log_event("error", "command.said", detail=text, exc_info=error)

    style = choices.log_format or "console"
    logs.configure(style=style, level=choices.log_level or ("error" if choices.quiet else "warning"))
    route_messages(log_message if style == "json" else None)


def command_context(installation: Installation) -> CommandContext:
    """Return the parts of the installation that the engine needs for plan, verify and explain."""
    from kbsync.engine.plan import CommandContext
    from kbsync.once import identities_of

    configured, at_work = identities_of(installation.config), lock.is_held(installation.state_dir)
    has_config = installation.config.path is not None
    return CommandContext(configured, installation.command_line, at_work, has_config)


async def for_each_mirror(
    installation: Installation,
    view: Callable[[MirrorSettings, Target, ReadOnlyState, Clock, CommandContext], Awaitable[T]],
) -> tuple[list[T], list[MirrorError]]:
    """Run `view` (plan or verify) on every requested mirror, with its target and the state opened for
    reading.

    Return the results, and the errors of the mirrors whose view failed.
    """
    from kbsync.engine.clock import SystemClock
    from kbsync.once import settings_of

    results, failures = list[T](), list[MirrorError]()
    with open_state(installation) as state:
        for mirror in installation.mirrors:
            try:
                async with open_for_reading(installation, mirror) as target:
                    context = command_context(installation)
                    results.append(await view(settings_of(mirror), target, state, SystemClock(), context))
            except MirrorError as error:
                failures.append(error)
    return results, failures


def mirrors_json(installation: Installation, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON of a command that covers all mirrors, in the config's order."""
    order = [mirror.name for mirror in installation.mirrors]
    return {"mirrors": sorted(results, key=lambda fields: order.index(fields["name"]))}


@asynccontextmanager
async def open_for_reading(installation: Installation, mirror: MirrorConfig) -> AsyncIterator[Target]:
    """Yield the mirror's target, which is empty if no pass has created it yet.

    Errors raised inside the context name the mirror.
    """
    import asyncio

    with concerning(mirror.name):
        with unmade(installation.narrow(mirror.name)):
            target = await asyncio.to_thread(installation.target_or_stand_in, mirror)
        async with aclosing(target):
            yield target


Message = tuple[str, str | None, Mapping[str, Any]]
"""A verb (approve, retry, repair, rescan or reload), the name of a mirror or None, and the arguments that the
engine's inbox reads.
"""


def post(installation: Installation, messages: Sequence[Message]) -> None:
    """Send the messages to the running kbsync or the next pass, either all of them or none.

    Raises `UsageError` if the state isn't writable.
    """
    import time

    def leave(tx: Tx) -> None:
        # In one transaction, so that no request is sent without the others.
        for verb, mirror, arguments in messages:
            name = mirror
            if mirror is not None and tx.mirrors.named(mirror) is None:
                # Use the former name: a running kbsync may still have the old config, and the next pass
                # renames the message.
                name = installation.former_names.get(mirror, mirror)
            tx.inbox.post(verb, name, arguments, time.time())

    change_state(installation, leave)


def change_state(installation: Installation, change: Callable[[Tx], T]) -> T:
    """Apply `change` to the state, even while kbsync is running, and wake the running process. Return the
    result of `change`.

    Use this only for messages and pauses, which are the only data that commands may write. Raises
    `UsageError` if the state isn't writable.
    """
    from kbsync.source.wake import wake
    from kbsync.state.store import StateStore

    prepare(installation)
    with closing(StateStore(installation.state_file, check=False)) as store:
        result = store.submit(change).result()
    wake(installation.state_dir)
    return result


@contextmanager
def unless_running(installation: Installation, instead: str) -> Iterator[None]:
    """Replace a `LockedError` raised inside with one that says how long kbsync has been running.

    `instead`: what the user can do.
    """
    try:
        yield
    except LockedError as error:
        daemon = lock.find_daemon(installation.state_dir)
        if daemon is None:
            raise
        from kbsync.engine.status import clock_time

        since = clock_time(daemon.since)
        raise LockedError(f"already running (pid {daemon.pid}) since {since}; {instead}") from error


def find_paused(installation: Installation) -> list[str]:
    """Return the requested mirrors that are paused."""
    import time

    def find(tx: Tx) -> list[str]:
        records, now = find_records(tx, installation), time.time()
        return [name for name, record in records if tx.pauses.current(record.id, now)]

    return read_state(installation, find)


def describe_paused(names: Sequence[str]) -> str:
    """Return a clause that says which mirrors are paused."""
    return printable(f"{format_list(names)} {'is' if len(names) == 1 else 'are'} paused")


def find_records(tx: Tx, installation: Installation) -> list[tuple[str, MirrorRecord]]:
    """Return the state's rows for the requested mirrors, by the mirrors' names in the config.

    A mirror that was renamed in the config keeps its row under the old name until the next pass.
    """
    from kbsync.engine.attach import find_record
    from kbsync.once import identities_of, settings_of

    configured = identities_of(installation.config)
    mirrors = installation.mirrors
    records = [(mirror.name, find_record(tx, settings_of(mirror), configured)) for mirror in mirrors]
    return [(name, record) for name, record in records if record is not None]


def request_reload(
    installation: Installation, otherwise: str, *, added: str | None = None, removed: str | None = None
) -> str:
    """Make a running kbsync reload the changed config, and return a sentence that says so.

    If none seems to be running, return `otherwise`. `added`, `removed`: the name of a mirror that was added
    to or removed from the config.
    """
    from kbsync.source.wake import wake
    from kbsync.state.inbox import RELOAD

    config = installation.config.path
    try:
        daemon = lock.find_daemon(installation.state_dir)
        if daemon is not None and config is not None and not daemon.uses(config):
            running = f"the running kbsync (pid {daemon.pid}) uses another config"
            return f"{running}; stop it before you start kbsync with this one"
        # A kbsync in another container can't be seen, but it reads the same state.
        if lock.holding(installation.state_dir) is not False:
            if exists(installation.state_file):
                post(installation, [(RELOAD, None, {})])
            else:
                # It is about to create the state, and reads the config after that.
                wake(installation.state_dir)
        daemon = lock.find_daemon(installation.state_dir)
    except (KbsyncError, OSError) as error:
        # The config has already been changed.
        return f"can't ask the running kbsync to reload the config ({error}); restart it"
    if daemon is None:
        return otherwise
    if added is not None and not daemon.serves(added):
        return lock.describe_left_out([added])
    if removed is not None and removed in daemon.only:
        return printable(
            f"the running kbsync (--mirror {removed}) will refuse this config and keep running; restart it "
            f"without --mirror {removed}"
        )
    return "the running kbsync will reload the config now"


def find_left_out(installation: Installation, names: Sequence[str]) -> list[str]:
    """Return the mirrors that the running kbsync doesn't serve, because its --mirror option leaves them
    out.
    """
    holder = lock.find_holder(installation.state_dir)
    return [] if holder is None else [name for name in names if not holder.serves(name)]


def describe_next(installation: Installation, names: Sequence[str], *, running: str, otherwise: str) -> str:
    """Return which kbsync process will work on these mirrors: `running` describes one that serves them, and
    `otherwise` what happens if none is running.
    """
    if left_out := find_left_out(installation, names):
        return lock.describe_left_out(left_out)
    return running if lock.is_held(installation.state_dir) else otherwise


def describe_delivery(installation: Installation, names: Sequence[str]) -> str:
    """Return a sentence that says which kbsync process will handle messages for these mirrors, and when."""
    if paused := [name for name in find_paused(installation) if name in names]:
        resume = installation.command_line(f"resume {paused[0]}" if len(paused) == 1 else "resume")
        return f"{describe_paused(paused)}; the request will have to wait; to resume: {resume}"
    once = f"the next pass will handle the request; to run a pass now: {installation.command_line('--once')}"
    running = "the running kbsync will handle the request right away"
    return describe_next(installation, names, running=running, otherwise=once)
