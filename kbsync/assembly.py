"""Makes the parts from a config: plans, targets, the state and its lock."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kbsync.config.model import Config, LocalTargetConfig, MirrorConfig, settings_for
from kbsync.config.remote import VectorizationConfig
from kbsync.contract import Surroundings, Target
from kbsync.core.brake import DeletionLimits
from kbsync.engine.terms import Plan
from kbsync.errors import UsageError
from kbsync.source.canary import wake
from kbsync.state import lock
from kbsync.state.connection import DamagedError, set_aside
from kbsync.state.store import Glance, Store
from kbsync.targets.registry import open_or_stand_in, open_target

STATE_FILE = "state.db"
SPOOL = "spool"


@dataclass(frozen=True, slots=True)
class Installation:
    """A config with its state directory. `flags`: the options that lead back here, for commands to paste."""

    config: Config
    state_dir: Path
    flags: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    @property
    def mirrors(self) -> Sequence[MirrorConfig]:
        """The mirrors asked for. Raises `UsageError` for a name that is not in the config."""
        names = [mirror.name for mirror in self.config.mirrors]
        for name in self.only:
            if name not in names:
                raise UsageError(f"there is no mirror {name!r}; known are: {', '.join(names)}")
        return [m for m in self.config.mirrors if not self.only or m.name in self.only]

    @property
    def state_file(self) -> Path:
        """The one file of the state."""
        return self.state_dir / STATE_FILE

    @property
    def spool_dir(self) -> Path:
        """Where bodies and parsers' scratch files lie; emptied at each start."""
        return self.state_dir / SPOOL

    def cure(self, command: str) -> str:
        """A command line that can be pasted."""
        return shlex.join(["kbsync", *shlex.split(command), *self.flags])

    def mirror_renamed(self, old: str, new: str) -> None:
        """An embedded knowledge base without a path of its own lies under its mirror's name."""
        source, target = (self.state_dir / "kb" / name for name in (old, new))
        if source.exists() and not target.exists():
            source.rename(target)

    def surroundings(self, mirror: MirrorConfig, *, read_only: bool) -> Surroundings:
        """What the mirror's target is told of its place."""
        return Surroundings(mirror.name, self.state_dir, self.spool_dir, read_only)

    def target(self, mirror: MirrorConfig, *, read_only: bool = False) -> Target:
        """The mirror's target, opened."""
        return open_target(mirror, self.surroundings(mirror, read_only=read_only))

    def target_or_stand_in(self, mirror: MirrorConfig) -> Target:
        """The mirror's target for looking, or an empty one where the first pass has yet to make it."""
        return open_or_stand_in(mirror, self.surroundings(mirror, read_only=True))


def plan_of(mirror: MirrorConfig) -> Plan:
    """The mirror as the engine takes it."""
    target, kind = mirror.target, mirror.target.type
    waiting = VectorizationConfig() if isinstance(target, LocalTargetConfig) else target.vectorization
    return Plan(
        name=mirror.name,
        root=Path(os.path.realpath(mirror.folder)),
        target_type=kind,
        include=mirror.include,
        exclude=mirror.exclude,
        settle=mirror.settle,
        settle_longest=mirror.settle_longest,
        rescan=mirror.rescan,
        deep_rescan=mirror.deep_rescan,
        prefix=mirror.prefix,
        renames=mirror.renames,
        names=mirror.names,
        adopt=mirror.adopt,
        observer=mirror.observer,
        absent_after=waiting.absent_after,
        deletions=DeletionLimits(
            mirror.deletions.hold_fraction, mirror.deletions.hold_count, mirror.deletions.hold_window
        ),
        settings=lambda path: settings_for(mirror, path, kind),
        fingerprint=repr(mirror.documents),
        given=mirror.folder,
    )


@contextmanager
def opened(installation: Installation, tell: Callable[[str], None]) -> Iterator[Store]:
    """The state, locked and ready to write. `tell` gets a sentence when a damaged one was set aside,

    which may be at the end, for damage that was met on the way: the next time makes a new one.

    Raises `LockedError`, `StateError`, and `UsageError` for a state of a newer kbsync.
    """
    with lock.held(installation.state_dir):
        _empty_spool(installation.spool_dir)
        store = _open_or_set_aside(installation.state_file, tell)
        try:
            names = [mirror.name for mirror in installation.config.mirrors]
            store.submit(lambda tx: tx.mirrors.detach_all_but(names)).result()
            yield store
        finally:
            store.close()
            if store.damage and store.is_there:
                tell(_set_aside(installation.state_file, store.damage))


def _empty_spool(spool: Path) -> None:
    """Scratch files of a run that was killed."""
    shutil.rmtree(spool, ignore_errors=True)
    if not spool.is_dir():
        spool.unlink(missing_ok=True)
    spool.mkdir(mode=0o700, exist_ok=True)


def _open_or_set_aside(path: Path, tell: Callable[[str], None]) -> Store:
    """A damaged state is kept for whoever wants to look; what the target holds is adopted, not sent again."""
    try:
        return Store(path)
    except DamagedError as error:
        tell(_set_aside(path, error.what))
        return Store(path)


def _set_aside(path: Path, damage: str) -> str:
    aside = set_aside(path)
    return f"{damage}; it was set aside as {aside.name}, and what is at the target is taken over anew"


def glance(installation: Installation) -> Glance | None:
    """The state for looking only; None where there is none yet, or one that is being made at this moment."""
    if not installation.state_file.exists():
        return None
    found = Glance(installation.state_file)
    if not found.is_made:
        found.close()
        return None
    return found


def ask(installation: Installation, work: Callable[[Store], None]) -> None:
    """Leave messages in the inbox and wake the process that holds the lock, if there is one."""
    store = Store(installation.state_file, check=False)
    try:
        work(store)
    finally:
        store.close()
    wake(installation.state_dir)
