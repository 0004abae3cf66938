"""A config with its state directory, the starting point of every command.

This module doesn't import the engine.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.config import places
from kbsync.config.model import Config, MirrorConfig
from kbsync.config.problems import with_known
from kbsync.core.text import shell_command
from kbsync.dataclass import dataclass
from kbsync.errors import StateError, UsageError, system_reason
from kbsync.permissions import exists

if TYPE_CHECKING:
    from kbsync.contract.target import Target, TargetContext

STATE_FILE = "state.db"
SPOOL = "spool"
BASES = "kb"
"""The name of the folder in the state directory for built-in knowledge bases without a configured path."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A config with its state directory.

    `flags`: the options that select it, for commands to paste. `former_names`: the old names of mirrors that
    have been renamed in the config but not yet in the state; the next pass renames them there, too.
    """

    config: Config
    state_dir: Path
    flags: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    former_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def mirrors(self) -> Sequence[MirrorConfig]:
        """Return the requested mirrors. Raises `UsageError` for a name that isn't in the config."""
        check_names(self.only, self.config.mirrors)
        return [m for m in self.config.mirrors if not self.only or m.name in self.only]

    def mirror(self, name: str) -> MirrorConfig:
        """One mirror among the requested ones."""
        return next(mirror for mirror in self.mirrors if mirror.name == name)

    def narrow(self, name: str | None) -> Installation:
        """Return the installation limited to this mirror. For None, return the installation unchanged.

        Raises `UsageError` if the mirror isn't among the requested ones.
        """
        if name is None:
            return self
        check_names([name], self.mirrors)
        return replace(self, only=(name,))

    def reread(self) -> Installation:
        """Return the installation with the current config from the file, or the same object if the file
        hasn't changed.

        Raises `UsageError` if the config is invalid, no longer contains a requested mirror, or specifies a
        different location for the state.
        """
        if self.config.path is None:  # of `--folder`
            return self
        from kbsync.config.reader import load_changed

        config = load_changed(self.config, os.environ)
        if config is self.config:
            return self
        if config.state_dir != self.config.state_dir:
            raise UsageError(f"state_dir in {config.path} has just been changed; run the command again")
        changed = replace(self, config=config)
        places.check_state_dir(self.state_dir, [mirror.folder for mirror in changed.mirrors])
        return changed

    @property
    def state_file(self) -> Path:
        """The database file of the state."""
        return self.state_dir / STATE_FILE

    @property
    def spool_dir(self) -> Path:
        """The folder for request bodies and parsers' scratch files. It is emptied at each start."""
        return self.state_dir / SPOOL

    def command_line(self, command: str) -> str:
        """Return a command line to paste, with all names quoted."""
        return shell_command(["kbsync", *shlex.split(command), *self.flags])

    def command_line_for_mirrors(self, command: str) -> str:
        """Return a command line like `command_line`.

        If only one mirror was requested, limit the command to that.
        """
        return self.command_line(" ".join([command, *(f"--mirror {name}" for name in self.only)]))

    def rename_base(self, old: str, new: str) -> None:
        """Move a built-in knowledge base without a configured path to its mirror's new name. Safe to repeat.

        Raises `StateError`.
        """
        source, target = (self.state_dir / BASES / name for name in (old, new))
        try:
            if exists(source) and not exists(target):
                source.rename(target)
        except OSError as error:
            reason = system_reason(error)
            raise StateError(f"cannot rename {source} to {new}: {reason}") from error

    def default_base(self, mirror: MirrorConfig) -> Path:
        """Return the default folder of a mirror's built-in knowledge base."""
        return self.state_dir / BASES / self._name_of_base(mirror)

    def _name_of_base(self, mirror: MirrorConfig) -> str:
        """Return the mirror's name, or its former name while its built-in knowledge base still uses that
        name.
        """
        former = self.former_names.get(mirror.name)
        bases = self.state_dir / BASES
        is_former = former is not None and exists(bases / former) and not exists(bases / mirror.name)
        return former if former is not None and is_former else mirror.name

    def embedded_base(self, mirror: MirrorConfig) -> Path | None:
        """Return the folder of a mirror's built-in knowledge base, or None for a mirror that uses a
        service.
        """
        return mirror.target.folder(self.state_dir, self._name_of_base(mirror))

    def target_context(
        self, mirror: MirrorConfig, *, read_only: bool, is_listening: bool = False
    ) -> TargetContext:
        """Return what a mirror's target needs to know about the mirror and its host."""
        from kbsync.config.target import callback_url
        from kbsync.contract.target import TargetContext

        callback = (callback_url(mirror) if is_listening else None) or ""
        prepare = None if read_only else mirror.prepare
        return TargetContext(
            self._name_of_base(mirror) if read_only else mirror.name,
            self.state_dir,
            self.spool_dir,
            read_only,
            mirror.prefix,
            mirror.folder,
            callback,
            None if prepare is None else prepare.cluster,
            self.command_line,
        )

    def target(self, mirror: MirrorConfig, *, read_only: bool = False, is_listening: bool = False) -> Target:
        """Open and return the mirror's target.

        `is_listening`: whether kbsync listens for the service's callbacks.
        """
        return mirror.target.open(self.target_context(mirror, read_only=read_only, is_listening=is_listening))

    def target_or_stand_in(self, mirror: MirrorConfig) -> Target:
        """Open the mirror's target read-only and return it.

        If no pass has created it yet, return an empty target.
        """
        return mirror.target.open_for_plan(self.target_context(mirror, read_only=True))


def check_names(names: Iterable[str], mirrors: Iterable[MirrorConfig]) -> None:
    """Raise `UsageError` for a name that isn't the name of any mirror."""
    known = [mirror.name for mirror in mirrors]
    for name in names:
        if name not in known:
            raise UsageError(with_known(f"there is no mirror {name!r}", name, known, "known mirrors"))
