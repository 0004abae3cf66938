"""`kbsync add`: adds another folder to the config, keeping the config's comments."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kbsync.cli.commands.init import (
    ConfigExists,
    explain_kept_trial,
    find_remembered,
    find_trial,
    held_trial,
    remembered_lines,
    resume_take_over,
    start_config,
    state_dir_of,
    take_over,
)
from kbsync.cli.context import choose, describe_paused, find_paused, request_reload
from kbsync.cli.options import FOLDER, Choices, examples, json_option, shared_options
from kbsync.cli.output import Output
from kbsync.config import places
from kbsync.config.folder_options import FolderOptions, config_settings
from kbsync.config.kinds import RefusedValue
from kbsync.config.model import MIRROR_NAME, folder_name, free_name
from kbsync.core.text import path_argument, printable
from kbsync.errors import KbsyncError, UsageError
from kbsync.overlaps import describe_overlaps, refuse_moved_folder
from kbsync.state import lock

if TYPE_CHECKING:
    from kbsync.installation import Installation


@click.command(
    epilog=examples(
        "kbsync add ~/notes",
        "kbsync add ~/Documents/Team --name team",
    )
)
@click.argument("directory", metavar="DIR", type=FOLDER)
@click.option("--name", metavar="NAME", help="The mirror's name; default: the folder's name.")
@click.option(
    "--target",
    metavar="TYPE",
    help="The type of knowledge base; every type except local needs more settings.",
)
@json_option
@shared_options
def command(choices: Choices, directory: Path, name: str | None, target: str | None, as_json: bool) -> None:
    """Add the folder DIR to the config, with its own built-in knowledge base.

    The rest of the config stays unchanged. A running kbsync reloads the config. If there is no config, this
    writes the same one as `kbsync init DIR`.
    """
    from kbsync.config.folders import folder_fault
    from kbsync.config.template import default_key
    from kbsync.targets.registry import DEFAULT_TARGET

    choices.refuse_folder("add")
    if name is not None:
        try:
            MIRROR_NAME.read(name)
        except RefusedValue as error:
            raise UsageError(f"--name: {error}") from None
    if fault := folder_fault(str(directory)):
        raise UsageError(fault)
    # Not resolved: a symlink may lead elsewhere later.
    folder = Path(os.path.abspath(os.path.expanduser(directory)))  # noqa: PTH100, PTH111
    config_path = places.find_config(choices.config, os.environ) or places.config_places(os.environ)[0]
    is_new = not os.path.lexists(config_path)
    _check_target(choices, target, directory, config_path, is_new=is_new)
    if is_new:
        # Another `add` may write the config in the meantime.
        with suppress(ConfigExists):
            remembered = _remembered(folder, state_dir_of(config_path, choices), target)
            kind, name = remembered.target or DEFAULT_TARGET, folder_name(folder) if name is None else name
            key, prints = default_key(kind), not as_json
            lines = remembered_lines(remembered, key)
            start_config(choices, config_path, folder, name, kind, key, lines, remembered, prints=prints)
            if as_json:
                _print_json(name, folder, kind, config_path)
            return
    name, kind, what_next, after = _add_to(choices, config_path, folder, name, target)
    overlaps = () if after is None else describe_overlaps(after.config, name)
    if as_json:
        _print_json(name, folder, kind, config_path, list(overlaps))
        return
    output = Output()
    output.line(printable(f"added {name} ({folder}) to {config_path}"))
    if not choices.quiet:
        *before, reload = what_next
        output.lines(before)
        if after is not None:
            from kbsync.cli.folder_contents import describe_vaults, limits_of, scan_mirror

            # The config has already been changed, and the next pass reports an unreadable folder.
            with suppress(OSError, KbsyncError):
                mirror = after.mirror(name)
                contents = scan_mirror(mirror, limits_of(after, mirror))
                output.lines(describe_vaults(mirror.folder, contents))
            output.lines(overlaps)
        output.line(reload)


def _remembered(folder: Path, state_dir: Path, target: str | None) -> FolderOptions:
    """Return the options of earlier `--folder` runs, but leave out their target if `--target` is set."""
    remembered = find_remembered(folder, state_dir)
    return remembered if target is None else FolderOptions(exclude=remembered.exclude)


def _print_json(name: str, folder: Path, kind: str, config_path: Path, notes: Sequence[str] = ()) -> None:
    config = os.path.abspath(config_path)  # noqa: PTH100
    added = {"added": name, "folder": str(folder), "target": kind, "config": config}
    Output().json({**added, **({"notes": notes} if notes else {})})


def _check_target(
    choices: Choices, target: str | None, directory: Path, config_path: Path, *, is_new: bool
) -> None:
    """Raise `UsageError` for a target type that needs settings in addition to `type`."""
    from kbsync.config.kinds import not_among
    from kbsync.config.template import required_keys, secret_key
    from kbsync.targets.registry import DEFAULT_TARGET, TARGETS

    if target in (None, DEFAULT_TARGET):
        return
    if target not in TARGETS:
        raise UsageError(f"--target: {not_among(target, TARGETS, 'target type')}")
    keys = ", ".join(filter(None, [secret_key(target), *required_keys(target)]))
    init = f"init {shlex.quote(path_argument(str(directory)))} --target {target}"
    fix = f"write that config with: {choices.typed(init)}"
    if not is_new:
        example = replace(choices, config=Path("example.yaml")).typed(init)
        fix = f"add the mirror to {config_path} yourself; for an example, run: {example}"
    raise UsageError(printable(f"a target of type {target} needs more settings ({keys}); {fix}"))


def _add_to(
    choices: Choices, config_path: Path, folder: Path, name: str | None, target: str | None
) -> tuple[str, str, Sequence[str], Installation | None]:
    """Add the mirror to an existing config.

    Return the mirror's name, its target type, sentences that say what happens next, and the new
    installation. The installation is None if the mirror was already in the config.
    """
    from kbsync.config.folders import AlreadyMirrored, add_mirror
    from kbsync.targets.registry import DEFAULT_TARGET

    # A config without mirrors gets its first one.
    choices = replace(choices, mirrors=())
    before = choose(choices, with_secrets=False, with_bases=False, with_mirrors=False, with_folders=False)
    refuse_moved_folder(before, folder)
    name = free_name(folder, before.config.mirrors) if name is None else name
    state_dir = before.state_dir
    is_running = lock.is_held(state_dir)
    trial_dir, remembered = find_trial(folder, state_dir), _remembered(folder, state_dir, target)
    kind, settings = remembered.target or DEFAULT_TARGET, config_settings(remembered)
    if not is_running and trial_dir is not None and (resumed := resume_take_over(before, folder)):
        reload = request_reload(before, f"to mirror it: {before.command_line('--once')}")
        return name, kind, [resumed, reload], None
    # A trial can move only while no other kbsync uses either state.
    moving = nullcontext() if is_running else held_trial(folder, state_dir, name, kind, config_path)
    with moving as trial:
        rename = f"choose another: {before.command_line(f'add {shlex.quote(str(folder))}')} --name NAME"
        try:
            config = add_mirror(
                config_path,
                os.environ,
                folder,
                name,
                state_dir=state_dir,
                other_name=rename,
                settings=settings,
            )
        except AlreadyMirrored:
            # An earlier command may have been killed before it could do this.
            request_reload(before, "")
            raise
        after = replace(before, config=config)
        what_next = [] if trial is None else [take_over(trial, after, name)]
    if is_running and trial_dir is not None:
        what_next.append(explain_kept_trial(trial_dir, folder, "another kbsync is running"))
    paused, otherwise = "", f"to mirror it: {after.command_line('--once')}"
    # The config has already been changed, and the next pass reports an unreadable state.
    with suppress(OSError, KbsyncError):
        if find_paused(after.narrow(name)):
            paused = f"{describe_paused([name])}; to resume: {after.command_line(f'resume {name}')}"
    reload = request_reload(after, paused or otherwise, added=name)
    if paused and reload != paused:
        what_next.append(paused)
    return name, kind, [*what_next, reload], after
