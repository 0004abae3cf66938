"""`kbsync init`: writes a commented config for a folder, and shows what the folder contains.

For a service, it lists the account's knowledge bases, and creates one if the user agrees. Documents mirrored
earlier with `--folder` move to the new config. Otherwise there would be a second copy of them, from which
kbsync would never delete anything (promise 11).
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kbsync.cli.context import is_set_by_systemd, request_reload
from kbsync.cli.exit_codes import code_of, sentence_of
from kbsync.cli.options import FILE, FOLDER, Choices, examples, shared_options
from kbsync.cli.output import Output, and_more, print_message
from kbsync.cli.prompts import agrees, ask
from kbsync.config import places
from kbsync.config.folder_options import FolderOptions, read_target, recall
from kbsync.config.model import Config, folder_name
from kbsync.core.text import format_count, path_argument, printable, shell_command, shell_word
from kbsync.dataclass import dataclass
from kbsync.errors import TOO_MANY_OPEN_FILES, KbsyncError, NameTaken, Rejected, UsageError, system_reason
from kbsync.permissions import exists, make_private_folder

if TYPE_CHECKING:
    from kbsync.accounts.account import Bases
    from kbsync.config.target import TargetConfig
    from kbsync.config.template import KeySource
    from kbsync.contract.target import BaseCard
    from kbsync.installation import Installation
    from kbsync.state.mirrors import MirrorRecord


@dataclass(frozen=True, slots=True)
class Trial:
    """The locked state directory of earlier `--folder` runs.

    `destination`: the directory it can move to, also locked.
    """

    state_dir: Path
    destination: Path | None


@contextmanager
def held_trial(
    folder: Path, state_dir: Path, name: str, kind: str, config: Path | None
) -> Iterator[Trial | None]:
    """Yield the state directory of earlier `--folder` runs for `folder`, locked; None if there is none.

    This also locks `state_dir`, the state directory of the file `config`, if the earlier state may move
    there: if the target has the same type, `kind`, and the mirror `name` has no built-in knowledge base yet.
    Both are locked before anything is written, so a refused command can be repeated. Raises `LockedError`
    while another kbsync is using one of them, and `UsageError` for an unusable state directory.
    """
    from kbsync.installation import BASES
    from kbsync.state import lock
    from kbsync.targets.registry import DEFAULT_TARGET

    if (trial_dir := find_trial(folder, state_dir)) is None:
        yield None
        return
    with lock.held(trial_dir, keeps_running=False):
        is_same_type = kind == (recall(trial_dir).target or DEFAULT_TARGET)
        if not is_same_type or _has_both_bases(trial_dir, state_dir / BASES / name, folder):
            yield Trial(trial_dir, None)
            return
        places.check_state_dir(state_dir, [folder])
        with lock.held(state_dir, keeps_running=False, config=config):
            yield Trial(trial_dir, state_dir)


def _has_both_bases(trial_dir: Path, base: Path, folder: Path) -> bool:
    """Return whether the mirror's built-in knowledge base `base` and the knowledge base of the trial both
    exist.

    If an earlier command was killed while it took over the trial, it may already have moved the trial's base
    to `base`.
    """
    return exists(base) and exists(_base_of_trial(trial_dir, folder))


def _base_of_trial(trial_dir: Path, folder: Path) -> Path:
    from kbsync.installation import BASES

    return trial_dir / BASES / folder_name(Path(os.path.realpath(folder)))


def resume_take_over(installation: Installation, folder: Path) -> str:
    """Take over the documents of earlier `--folder` runs for `folder`, which is already in the config.

    This is needed if an earlier command was killed before it could do so. Return a message for the user, or
    '' if nothing changed. Raises `LockedError` while another kbsync process is using one of the states.
    """
    real = os.path.realpath(folder)
    mirrors = installation.config.mirrors
    mirror = next((mirror for mirror in mirrors if os.path.realpath(mirror.folder) == real), None)
    if mirror is None:
        return ""
    kind, config = mirror.target.type, installation.config.path
    with held_trial(folder, installation.state_dir, mirror.name, kind, config) as trial:
        if trial is None or trial.destination is None:
            return ""
        message = take_over(trial, installation, mirror.name)
        return "" if exists(trial.state_dir) else message


def find_trial(folder: Path, state_dir: Path) -> Path | None:
    """Return the state directory of earlier `--folder` runs for `folder`, unless `state_dir` is inside it."""
    from kbsync.installation import STATE_FILE

    try:
        # Resolved as `--folder` does, so that any symlink to the folder works.
        trial_dir = places.folder_state_dir(Path(os.path.realpath(folder)), places.state_home(os.environ))
    except UsageError:
        # No home directory is known.
        return None
    # If the config has its state there, it continues to use it.
    is_used = places.is_inside(state_dir, trial_dir)
    return trial_dir if exists(trial_dir / STATE_FILE) and not is_used else None


def find_remembered(folder: Path, state_dir: Path) -> FolderOptions:
    """Return the options of earlier `--folder` runs for `folder`, to be kept in the config.

    Raises `UsageError`.
    """
    trial_dir = find_trial(folder, state_dir)
    return FolderOptions() if trial_dir is None else recall(trial_dir)


def remembered_lines(options: FolderOptions, key: KeySource | None) -> Callable[[], list[str]] | None:
    """Return a function that produces the target's config lines for `start_config`.

    Return None for the built-in knowledge base. Raises `UsageError`.
    """
    from kbsync.config.template import target_lines

    target = read_target(options)
    return None if target is None else partial(target_lines, target.type, key, target.values)


def take_over(trial: Trial, installation: Installation, name: str) -> str:
    """Move the state and knowledge base of a trial (earlier `--folder` runs) to the mirror `name`, and return
    a message about it.

    If they can't be moved, they stay unchanged, and the message contains the command that deletes them.
    """
    from kbsync.engine.settings import base_key
    from kbsync.installation import STATE_FILE
    from kbsync.state.move import is_moved, move_mirror, obstacle
    from kbsync.targets.registry import DEFAULT_TARGET

    mirror, trial_dir = installation.mirror(name), trial.state_dir
    base, records = installation.default_base(mirror), _records_in(trial_dir)
    if len(records) > 1:
        # It is the `state_dir` of another config, which still needs it.
        return f"{printable(str(trial_dir))} also has other mirrors, so it was left unchanged"
    if _has_both_bases(trial_dir, base, mirror.folder):
        return explain_kept_trial(trial_dir, mirror.folder, f"{mirror.name} already has {base}")
    is_embedded, key = mirror.target.type == DEFAULT_TARGET, list(mirror.target.base_key(name))
    is_same = all(
        record.target == mirror.target.type and (is_embedded or base_key(record.location) == key)
        for record in records
    )
    if trial.destination is None or not is_same:
        return explain_kept_trial(trial_dir, mirror.folder, f"{mirror.name} uses a different knowledge base")
    # A killed command may have moved the base, and then the state.
    is_state_moved = is_moved(trial_dir / STATE_FILE, installation.state_file)
    why = "" if is_state_moved else obstacle(trial_dir / STATE_FILE, installation.state_file, mirror.name)
    if why:
        return explain_kept_trial(trial_dir, mirror.folder, why)
    # The knowledge base first: if the move stops halfway, the next pass adopts its documents.
    source = _base_of_trial(trial_dir, mirror.folder)
    if exists(source):
        make_private_folder(base.parent)
        shutil.move(source, base)
    if not is_state_moved:
        move_mirror(trial_dir / STATE_FILE, installation.state_file, mirror.name)
    shutil.rmtree(trial_dir)
    return "the documents mirrored with --folder were moved here; nothing will be reindexed"


def explain_kept_trial(trial_dir: Path, folder: Path, why: str) -> str:
    """Return why the state of earlier `--folder` runs can't be moved, and the command that deletes this
    state.
    """
    return printable(f"{why}: {describe_trial(trial_dir, folder)}")


def describe_trial(trial_dir: Path, folder: Path) -> str:
    """Return that the state of earlier `--folder` runs still exists, and the command that deletes it."""
    from kbsync.targets.registry import DEFAULT_TARGET

    name = folder_name(Path(os.path.realpath(folder)))
    if all(record.target == DEFAULT_TARGET for record in _records_in(trial_dir)):
        end = shell_command(["kbsync", "forget", name, "--delete-documents", "--state-dir", str(trial_dir)])
        return f"{trial_dir} still has the documents mirrored with --folder; to delete them: {end}"
    # The new mirror may adopt the documents on a service, so no command here deletes them.
    end = shell_command(["kbsync", "forget", name, "--state-dir", str(trial_dir)])
    return f"{trial_dir} still has the state of the documents mirrored with --folder; to delete it: {end}"


def _records_in(trial_dir: Path) -> list[MirrorRecord]:
    from kbsync.installation import STATE_FILE
    from kbsync.state.read_only import ReadOnlyState

    with closing(ReadOnlyState(trial_dir / STATE_FILE)) as state:
        return state.read(lambda tx: tx.mirrors.all())


Value = TypeVar("Value")

PLACEHOLDER = "user=not-the-key"
"""Placeholder for a key or dsn while kbsync checks a new config, because the environment variable may not be
set yet."""

UNNAMED = "not-named-yet"
"""Placeholder for the id of the knowledge base until the user chooses one."""

MOST = 50
"""Maximum number of knowledge bases to list; the user can choose others by id."""


@click.command(
    epilog=examples(
        "kbsync init docs",
        "kbsync init docs --config ./kbsync.yaml",
        "kbsync init docs --target TYPE --base ID --key-file ~/.config/kbsync/key",
        "kbsync init docs --target TYPE --create handbook",
    )
)
@click.argument("directory", metavar="[DIR]", required=False, type=FOLDER)
@click.option("--target", metavar="TYPE", help="The type of knowledge base; default: local.")
@click.option("--base", metavar="ID", help="The id of the knowledge base.")
@click.option("--create", metavar="NAME", help="Create a knowledge base with this name instead.")
@click.option("--base-url", metavar="URL", help="The URL of the service, if it isn't the default.")
@click.option("--key-env", metavar="NAME", help="The environment variable that holds the key or dsn.")
@click.option("--key-file", metavar="FILE", type=FILE, help="The file that holds the key or dsn.")
@shared_options
def command(
    choices: Choices,
    directory: Path | None,
    target: str | None,
    base: str | None,
    create: str | None,
    base_url: str | None,
    key_env: str | None,
    key_file: Path | None,
) -> None:
    """Write a commented config that mirrors DIR (default: the working directory).

    Writes to --config FILE or $XDG_CONFIG_HOME/kbsync/config.yaml (~/.config/kbsync/config.yaml), and never
    overwrites a file. On a terminal, it asks for missing values; with DIR and without --target it uses the
    built-in knowledge base. For a service, it lists the account's knowledge bases and offers to create one.
    It never writes a key, only where to find it. It takes over documents mirrored earlier with --folder, and
    writes the path from --state-dir into the config.
    """
    from kbsync.config.kinds import not_among
    from kbsync.config.template import base_key, has_address, secret_key
    from kbsync.targets.registry import DEFAULT_TARGET, TARGETS

    choices.refuse_folder("init")
    path = choices.config or places.config_places(os.environ)[0]
    if os.path.lexists(path):
        add = "add DIR" if directory is None else _add_command(directory)
        raise ConfigExists(path, choices.typed(add) if target in (None, DEFAULT_TARGET) else "")
    folder = _folder(directory)
    remembered = find_remembered(folder, state_dir_of(path, choices))
    keeps_target = remembered.target is not None and not any((target, base, create, base_url))
    if keeps_target:
        target = remembered.target
    if target is None and directory is not None:
        target = DEFAULT_TARGET  # don't ask about it: the built-in one needs no settings

    def fault(answer: str) -> str:
        return "" if answer in TARGETS else f"--target: {not_among(answer, TARGETS, 'target type')}"

    kind = _ask_until_valid(target, f"Knowledge base ({', '.join(TARGETS)})", DEFAULT_TARGET, fault)
    instead = f"a target of type {kind}; omit them, or choose another --target"
    if base is not None and create is not None:
        raise UsageError("--base and --create cannot be used together")
    if base_key(kind) is None and (base or create):
        raise UsageError(f"--base and --create do not apply to {instead}")
    if secret_key(kind) is None and (key_env or key_file):
        raise UsageError(f"--key-env and --key-file do not apply to {instead}")
    if base_url is not None and not has_address(kind):
        raise UsageError(f"--base-url: a target of type {kind} has no URL; omit it")
    key = _key(kind, key_env, key_file)
    if keeps_target:
        lines = remembered_lines(remembered, key)
    else:
        block = partial(_target_lines, kind, key, base, create, base_url)
        lines = None if kind == DEFAULT_TARGET else block
    start_config(choices, path, folder, folder_name(folder), kind, key, lines, remembered)


def start_config(
    choices: Choices,
    path: Path,
    folder: Path,
    name: str,
    kind: str,
    key: KeySource | None,
    target: Callable[[], list[str]] | None,
    remembered: FolderOptions,
    *,
    prints: bool = True,
) -> None:
    """Write a config with one mirror to `path`, and print what to do next.

    `key`: where the target's key is, if it has one. `target` returns the config lines for a service; it is
    None for the built-in knowledge base. `remembered`: see `find_remembered`. Raises `ConfigExists`.
    """
    from kbsync.cli.folder_contents import describe, limits_of, scan_mirror
    from kbsync.config.template import commented_config
    from kbsync.installation import Installation

    state_dir = state_dir_of(path, choices)
    places.check_state_dir(state_dir, [folder], create=False)
    # Locked before a service creates anything, because on a second run the name would be in use.
    with held_trial(folder, state_dir, name, kind, path) as trial:
        moves = trial is not None and trial.destination is not None
        is_usual = choices.state_dir is None and not (
            moves and is_set_by_systemd(state_dir, _unwritten_config(path))
        )
        text = commented_config(
            folder,
            target=None if target is None else target(),
            state_dir=None if is_usual else state_dir,
            usual_state_dir=state_dir,
            name=name,
            exclude=remembered.patterns,
        )
        add = "" if target else choices.typed(_add_command(folder))
        installation = Installation(_write_config(path, text, key, add), state_dir)
        trial_message = "" if trial is None else take_over(trial, installation, name)
    # A kbsync may still run with a config that was deleted.
    reload = request_reload(installation, "", added=name)
    if not prints:
        return
    output, mirror = Output(), installation.config.mirrors[0]
    output.line(f"wrote {printable(str(path))}")
    if choices.quiet:
        return
    if trial_message:
        output.line(trial_message)
    try:
        limits = limits_of(installation, mirror)
        contents = scan_mirror(mirror, limits)
        output.lines(describe(mirror.name, mirror.folder, contents, is_paid=limits.paid))
    except (OSError, KbsyncError) as error:
        print_message(f"{mirror.folder} cannot be read: {system_reason(error)}")
    if key is not None and key.env and not os.environ.get(key.env):
        output.line(f"  export {key.env}=…  # first")
    if reload:
        output.line(reload)
        return
    next_steps = [("--once", "mirror now"), ("", "mirror, and keep watching")]
    if key is not None:
        next_steps.insert(0, ("doctor", "check everything it needs"))
    config_option = "" if choices.config is None else f"--config {shell_word(path_argument(str(path)))}"
    for command, purpose in next_steps:
        output.line(f"  {' '.join(filter(None, ('kbsync', command, config_option)))}  # {purpose}")


def _add_command(folder: Path) -> str:
    return f"add {shlex.quote(path_argument(os.path.abspath(folder)))}"  # noqa: PTH100 (symlinks stay as typed)


class ConfigExists(UsageError):
    """Raised if the new config's path is taken. `add`: the command that adds the folder to the existing
    config.
    """

    def __init__(self, path: Path, add: str = "") -> None:
        if path.is_dir():
            super().__init__(f"{path} is a directory; choose a file with --config FILE")
        elif not exists(path):
            super().__init__(
                f"{path} is a symbolic link to a file that does not exist; create that file, or choose "
                "another file with --config FILE"
            )
        elif not add:
            super().__init__(
                f"{path} already exists; add the mirror to it, or choose another file with --config FILE"
            )
        else:
            super().__init__(
                f"{path} already exists; choose another file with --config FILE, or add the folder to this "
                f"config: {add}"
            )


def state_dir_of(path: Path, choices: Choices) -> Path:
    """Return the state directory for a new config at `path`.

    Raises `UsageError` if the home directory is unknown.
    """
    if choices.config is None and path == places.SYSTEM_CONFIG:
        raise UsageError("cannot determine your home directory; choose the file to write with --config FILE")
    return places.state_dir(os.environ, explicit=choices.state_dir, config=_unwritten_config(path))


def _unwritten_config(path: Path) -> Config:
    return Config(mirrors=(), path=Path(os.path.abspath(path)))  # noqa: PTH100


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask_until_valid(value: str | None, question: str, default: str, fault: Callable[[str], str]) -> str:
    """Return the given value or, if there is none, the user's answer. Ask again as long as `fault` returns
    a message.

    Without a terminal, `default` is used, and a message becomes a `UsageError`.
    """
    answer = value if value is not None else ask(question, default) if _is_interactive() else default
    while complaint := fault(answer):
        if not _is_interactive():
            raise UsageError(complaint)
        print_message(complaint)
        answer = ask(question, default)
    return answer


def _folder(folder: Path | None) -> Path:
    """Return an existing folder. If none was given, suggest the working directory."""
    from kbsync.config.folders import folder_fault

    answer = _ask_until_valid(None if folder is None else str(folder), "Folder to mirror", ".", folder_fault)
    return Path(os.path.expanduser(answer))  # noqa: PTH111


def _key(kind: str, env: str | None, file: Path | None) -> KeySource | None:
    """Return where to find the service's key or the database's `dsn`, or None if the target has no such
    secret.
    """
    from kbsync.config.template import KeySource, secret_key, secret_variable

    if (secret := secret_key(kind)) is None:
        return None
    noun = secret.rpartition("_")[2]
    if env is not None and file is not None:
        raise UsageError("--key-env and --key-file cannot be used together")
    if file is not None:
        return KeySource(file=os.path.abspath(file))  # noqa: PTH100

    def fault(answer: str) -> str:
        # Don't repeat the answer, which may be the key.
        if "/" in answer:
            is_there = os.path.isfile(os.path.expanduser(answer))  # noqa: PTH111, PTH113
            return "" if is_there else f"no such file; create a file that contains only the {noun}"
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", answer):
            return ""
        return f"not the name of an environment variable; never type the {noun} itself"

    question = f"Environment variable that holds the {noun}, or the path of a file that contains it"
    answer = _ask_until_valid(env, question, secret_variable(kind), fault)
    if "/" in answer:
        return KeySource(file=os.path.abspath(os.path.expanduser(answer)))  # noqa: PTH100, PTH111
    return KeySource(env=answer)


def _target_lines(
    kind: str, key: KeySource | None, base: str | None, create: str | None, base_url: str | None
) -> list[str]:
    """Return the config block for the service. Required keys come from the command line or the user."""
    from kbsync.config.template import base_key, required_keys, target_lines

    values = {}
    if base_url is not None:
        values["base_url"] = _address(kind, base_url)
    for number, (name, about) in enumerate(required_keys(kind).items()):
        if name == base_key(kind) and key is not None and base is None:
            values[name] = _base(kind, key, dict(values), create, name, about)
        else:
            values[name] = (base if number == 0 else None) or _ask_required(name, about)
    return target_lines(kind, key, values)


def _address(kind: str, url: str) -> str:
    """Return the URL in the form that the config requires. Raises `UsageError`."""
    from kbsync.config.kinds import RefusedValue, ValueKind
    from kbsync.config.model import settings_of
    from kbsync.targets.registry import TARGETS

    mark = settings_of(TARGETS[kind])["base_url"].mark
    assert isinstance(mark, ValueKind)
    try:
        return str(mark.read(url))
    except RefusedValue as error:
        raise UsageError(f"--base-url: {error}") from None


def _query_account(
    kind: str, location: KeySource, settings: dict[str, str], query: Callable[[Bases], Awaitable[Value]]
) -> Value:
    """Run `query` on the account that the key gives access to, and return its result.

    `settings`: the target's other settings.
    """
    import asyncio
    from contextlib import aclosing

    from kbsync.accounts.account import account_of
    from kbsync.config.kinds import RefusedValue
    from kbsync.config.model import settings_of
    from kbsync.config.reader import PathBase, read_secret
    from kbsync.config.secrets import Confidential
    from kbsync.config.template import KEY, base_key
    from kbsync.contract.target import TargetContext
    from kbsync.targets.registry import TARGETS

    base, mark = base_key(kind), settings_of(TARGETS[kind])[KEY].mark
    assert base is not None
    assert isinstance(mark, Confidential)
    try:
        if location.file:
            text = read_secret(location.file, PathBase(Path(), None))
        elif not (text := os.environ.get(location.env, "")):
            raise UsageError(
                f"${location.env} is not set; export it, or pass a file that contains the key with --key-file"
            )
        key = mark.read(text)
    except RefusedValue as error:
        raise UsageError(f"the key can't be used: {error}") from None
    config: TargetConfig = TARGETS[kind](**{KEY: key, base: UNNAMED, **settings})
    # A service needs no place on disk.
    nowhere = Path(os.devnull)
    target = config.open(TargetContext("", nowhere, nowhere, read_only=True))

    async def query_bases() -> Value:
        async with aclosing(target):
            if (bases := account_of(target).bases) is None:
                raise UsageError(f"kbsync cannot list {kind} knowledge bases")
            return await query(bases)

    return asyncio.run(query_bases())


def _base(
    kind: str, key: KeySource, settings: dict[str, str], create: str | None, setting: str, about: str
) -> str:
    """Return the id of a knowledge base: a new one, one chosen from the account's list or, if the bases
    can't be listed, an id that the user types.

    `setting`: the config key for the id, with its description.
    """
    from kbsync.accounts.account import BaseRequest

    def created(name: str) -> str:
        try:
            card = _query_account(kind, key, settings, lambda bases: bases.create(BaseRequest(name)))
        except Rejected as error:
            # An earlier `init` may have been interrupted after it had created the base.
            fix = "; to use it, pass this id with --base" if isinstance(error, NameTaken) else ""
            raise UsageError(f"{error.reason}{fix}") from error
        print_message(f"created the knowledge base {printable(name)}: {card.id}")
        return card.id

    def listed() -> Sequence[BaseCard] | None:
        """Print all bases on stderr, where the question also appears, and return them.

        Return None if the account can't be queried.
        """
        try:
            cards = _query_account(kind, key, settings, lambda bases: bases.list_all())
        except Exception as error:
            if code_of(error) is None:
                raise
            print_message(f"cannot list the account's knowledge bases: {sentence_of(error)}")
            return None
        if not cards:
            print_message("the account has no knowledge bases yet")
        for number, card in enumerate(cards[:MOST], 1):
            documents = "" if card.documents is None else f"  {format_count(card.documents, 'document')}"
            print_message(f"{number}  {card.id}  {printable(card.name)}{documents}")
        if len(cards) > MOST:
            print_message(f"… {and_more(len(cards) - MOST)}")
        return cards

    if create is not None:
        return created(create)
    if not _is_interactive():
        listed()
        raise UsageError(
            f"{setting} is missing ({about}); pass --base ID, or --create NAME for a new base, or run init "
            "in a terminal"
        )
    while (cards := listed()) is not None:
        answer = ask("Knowledge base: its number or id, or a name for a new one", "1" if cards else None)
        if answer.isdecimal() and 1 <= int(answer) <= len(cards[:MOST]):
            return cards[int(answer) - 1].id
        if chosen := [card.id for card in cards if answer in (card.id, card.name)]:
            return chosen[0]
        if agrees(f"There is no knowledge base {printable(answer)}; create one with this name?"):
            return created(answer)
    return _ask_required(setting, about)


def _ask_required(key: str, about: str) -> str:
    if not _is_interactive():
        raise UsageError(f"{key} is missing ({about}); add it, or run init in a terminal")
    return ask(f"{key}: {about.removesuffix(', in quotes')}").strip("\"'")


def _write_config(path: Path, text: str, key: KeySource | None, add: str) -> Config:
    """Write the config, unless it is invalid. `add`: see `ConfigExists`."""
    from kbsync.config.edit import create_config

    environ = {**os.environ, **({key.env: os.environ.get(key.env) or PLACEHOLDER} if key and key.env else {})}
    try:
        return create_config(path, environ, text)
    except UsageError as error:
        raise UsageError(f"nothing was written: {error}") from error
    except OSError as error:
        if os.path.lexists(path):
            raise ConfigExists(path, add) from None
        if error.errno in (*TOO_MANY_OPEN_FILES, errno.EFBIG):
            raise  # another file would fail, too
        why = system_reason(error)
        raise UsageError(
            f"{path} cannot be created ({why}); choose another file with --config FILE"
        ) from None
