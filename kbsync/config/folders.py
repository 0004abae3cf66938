"""Adds folders to a config file and removes mirrors from it, for the commands and the web page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kbsync.config import places
from kbsync.config.edit import NotEditable, edit_config, lines_of, with_mirror, without_mirror
from kbsync.config.model import Config
from kbsync.config.template import INSTEAD, as_yaml, escaped
from kbsync.config.yaml import Value
from kbsync.core.text import path_argument, shell_command, shell_word
from kbsync.errors import UsageError
from kbsync.file_systems import access_within, real_path


class AlreadyMirrored(UsageError):
    """Raised if the folder already belongs to a mirror in the config."""


def folder_fault(typed: str) -> str:
    """Return why the typed path isn't a folder, and what to do. Return "" if the path is a folder."""
    path = os.path.expanduser(typed)  # noqa: PTH111
    try:
        return access_within(Path(path), lambda: _folder_fault(typed, path))
    except TimeoutError as error:
        return f"{typed}: {error.strerror}; check the network and the file server"


def _folder_fault(typed: str, path: str) -> str:
    if os.path.isdir(path):  # noqa: PTH112
        return ""
    if os.path.exists(path):  # noqa: PTH110
        return f"{typed} is a file; choose a folder"
    if os.path.islink(path):  # noqa: PTH114
        return f"{typed} is a symbolic link to a folder that does not exist; choose another folder"
    return f"{typed} does not exist; create it with: mkdir -p {shell_word(path_argument(path))}"


def add_mirror(
    config_path: Path,
    environ: Mapping[str, str],
    folder: Path,
    name: str,
    *,
    state_dir: Path,
    other_name: str,
    settings: Mapping[str, Value],
) -> Config:
    """Add a mirror of `folder` to the config, and return the new config.

    `other_name`: text for the error message that tells the user how to choose a different name. `settings`:
    the mirror's other keys. If they contain no target, the mirror gets a built-in knowledge base. Raises
    `UsageError` without changing anything, for example if the config can't be edited.
    """

    added: dict[str, Value] = {"name": escaped(name), "folder": escaped(str(folder), INSTEAD), **settings}

    def change(config: Config, text: str) -> str:
        real = real_path(folder)
        for mirror in config.mirrors:
            if real_path(mirror.folder) == real:
                raise AlreadyMirrored(f"{folder} already belongs to mirror {mirror.name}")
            if mirror.name == name:
                raise UsageError(f"{name} is already the name of {mirror.folder}; {other_name}")
        places.check_state_dir(state_dir, [folder], create=False)
        return with_mirror(text, added)

    try:
        return edit_config(config_path, environ, change)
    except NotEditable as error:
        lines = "\n    ".join(f"{key}: {as_yaml(value)}" for key, value in added.items())
        raise UsageError(
            f"{config_path} {error}; add these lines to `mirrors:` yourself:\n  - {lines}"
        ) from None


def remove_mirror(
    config_path: Path,
    environ: Mapping[str, str],
    name: str,
    command_line: Callable[[str], str],
    *,
    writes: bool = True,
    deletes: bool = False,
) -> None:
    """Remove the mirror from the config if it is still there, but keep its documents.

    Without `writes`, this only checks whether that is possible. `deletes`: whether the user wants to delete
    the documents, too. Raises `UsageError`.
    """
    lines = (0, 0)
    forget = command_line(f"forget {name} --delete-documents" if deletes else f"forget {name}")

    def change(config: Config, text: str) -> str:
        nonlocal lines
        names = [mirror.name for mirror in config.mirrors]
        if name not in names:
            return text
        if len(names) == 1:
            raise UsageError(
                f"{name} is the only mirror in {config_path}, and a config needs at least one; add another "
                f"folder first, or forget this mirror with: {forget}\nthen delete the config, or the next "
                f"pass will mirror the folder again: {shell_command(['rm', str(config_path)])}"
            )
        index = names.index(name)
        lines = lines_of(text, index)
        return without_mirror(text, index)

    try:
        edit_config(config_path, environ, change, writes=writes)
    except NotEditable as error:
        first, last = lines
        where = "" if not first else f" (line {first})" if first == last else f" (lines {first} to {last})"
        by_hand = f"remove the mirror {name}{where} yourself"
        if deletes:
            by_hand = (
                f"to delete the documents, run: {forget}\nthen {by_hand}, or the next pass will mirror the "
                "folder again"
            )
        raise UsageError(f"{config_path} {error}; {by_hand}") from None
