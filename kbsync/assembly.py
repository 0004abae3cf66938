"""Makes the parts of a pass from a config: plans, the state and its lock."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kbsync.config.model import LocalTargetConfig, MirrorConfig, settings_for
from kbsync.config.remote import VectorizationConfig
from kbsync.core.brake import DeletionLimits
from kbsync.engine.terms import Plan
from kbsync.errors import StateError
from kbsync.installation import Installation
from kbsync.secrecy import make_private_folder
from kbsync.state import lock, owners
from kbsync.state.connection import DamagedError, set_aside
from kbsync.state.store import Store


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
        _empty_spool(installation.state_dir, installation.spool_dir)
        store = _open_or_set_aside(installation.state_file, tell)
        try:
            names = [mirror.name for mirror in installation.config.mirrors]
            store.submit(lambda tx: tx.mirrors.detach_all_but(names)).result()
            yield store
        finally:
            store.close()
            if store.damage and store.is_there:
                tell(_what_became_of(installation.state_file, store.damage))


def _empty_spool(state_dir: Path, spool: Path) -> None:
    """Scratch files of a run that was killed. Raises `ForeignError` where another user has shut them."""
    shutil.rmtree(spool, ignore_errors=True)
    with contextlib.suppress(OSError):
        spool.rmdir()  # one that may not be listed can be empty
    if not spool.is_dir():
        spool.unlink(missing_ok=True)
    make_private_folder(spool)
    if os.geteuid() != 0:
        for place in owners.strange(state_dir):
            if place.is_relative_to(spool):
                raise owners.refusal(state_dir, place)


def _open_or_set_aside(path: Path, tell: Callable[[str], None]) -> Store:
    """A damaged state is kept for whoever wants to look; what the target holds is adopted, not sent again."""
    try:
        return Store(path)
    except DamagedError as error:
        tell(_set_aside(path, error.what))
        return Store(path)


def _what_became_of(path: Path, damage: str) -> str:
    """Where it cannot be set aside now, the next opening tries again."""
    try:
        return _set_aside(path, damage)
    except StateError as error:
        return str(error)


def _set_aside(path: Path, damage: str) -> str:
    """What was done, in a sentence. Raises `StateError` where it cannot be done."""
    try:
        aside = set_aside(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise StateError(f"{damage}, and it cannot be set aside ({why}): see to {path.parent}") from error
    return f"{damage}; it was set aside as {aside.name}, and what is at the target is taken over anew"
