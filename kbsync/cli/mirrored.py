"""Finds the mirror of a folder or of one of its parents, wherever the mirror's config or state is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.config import places
from kbsync.config.model import Config, Needs
from kbsync.dataclass import dataclass
from kbsync.errors import KbsyncError
from kbsync.file_systems import real_path
from kbsync.overlaps import enters
from kbsync.permissions import exists

if TYPE_CHECKING:
    from kbsync.state.read_only import Tx


@dataclass(frozen=True, slots=True)
class MirroredFolder:
    """A folder with its mirrors, which come from a `config` or from an earlier `--folder` run.

    `root`: the folder's real path. `names`: the names of the mirrors in the config.
    """

    root: Path
    config: Path | None = None
    names: tuple[str, ...] = ()


def find_mirrored(folder: Path, environ: Mapping[str, str]) -> MirroredFolder | None:
    """Return the innermost mirrored folder that is `folder` (a real path) or contains it.

    The mirror is found through a config in one of the default locations, or through the state of an
    earlier `--folder` run.
    """
    from kbsync.installation import STATE_FILE

    candidates = list[tuple[bool, MirroredFolder]]()
    for file in filter(os.path.lexists, places.config_places(environ)):
        from kbsync.config.reader import load  # only for a config: the YAML parser is slow to load

        # An unusable config must not affect a command that doesn't name it.
        with suppress(KbsyncError, OSError):
            config = load(file, environ, Needs(secrets=False, bases=False, folders=False))
            names_by_root: dict[Path, tuple[str, ...]] = {}
            for mirror in config.mirrors:
                root = real_path(mirror.folder)
                if folder.is_relative_to(root) and enters(root, folder, mirror):
                    names_by_root[root] = (*names_by_root.get(root, ()), mirror.name)
            for root, names in names_by_root.items():
                if (is_mirrored := _is_mirrored(config, root, names, environ)) is not None:
                    candidates.append((is_mirrored, MirroredFolder(root, file, names)))
    for known in places.known_folders(places.find_state_home(environ)):
        if folder.is_relative_to(known.folder) and enters(known.folder, folder):
            candidates.append((exists(known.state_dir / STATE_FILE), MirroredFolder(known.folder)))
    # The first of equals wins, so a config takes precedence over the trial that it replaced.
    return max(
        candidates, key=lambda candidate: (len(candidate[1].root.parts), candidate[0]), default=(False, None)
    )[1]


def _is_mirrored(
    config: Config, root: Path, names: tuple[str, ...], environ: Mapping[str, str]
) -> bool | None:
    """Return whether a pass of one of these mirrors has finished, or None if this user can't read the
    state.
    """
    from kbsync.installation import STATE_FILE
    from kbsync.state.read_only import ReadOnlyState

    def has_passed(tx: Tx) -> bool:
        records = [record for name in names if (record := tx.mirrors.named(name)) is not None]
        # A mirror with that name may have had a different folder.
        return any(record.last_pass is not None and Path(record.folder) == root for record in records)

    file = places.state_dir(environ, config=config) / STATE_FILE
    try:
        if not exists(file):
            return False
        if not os.access(file, os.R_OK):
            return None
        with closing(ReadOnlyState(file)) as state:
            return state.read(has_passed)
    except PermissionError:
        return None
    except (KbsyncError, OSError):
        # The command itself reports the error when it opens the state.
        return True
