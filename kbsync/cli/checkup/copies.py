"""Copies of texts that nothing serves: no pass will ever take a deleted document out of them (promise 11)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from kbsync.cli.checkup.finding import Finding, warning
from kbsync.config import places
from kbsync.core.printable import shell_word
from kbsync.errors import UsageError
from kbsync.installation import BASES, Installation
from kbsync.state import lock


def copies(installation: Installation) -> Iterator[Finding]:
    """Each with the command that removes it."""
    found = [
        *_of_folders(installation),
        *_of_former_mirrors(installation),
        *_damaged(installation),
    ]
    yield from found
    if not found:
        yield Finding("copies", "none that nothing serves")


def _of_folders(installation: Installation) -> Iterator[Finding]:
    """States of `--folder`, where the folder is mirrored by a config as well, is gone, or is not known."""
    try:
        below = places.state_home(os.environ)
    except UsageError:
        return
    known = {each.state_dir: each.folder for each in places.known_folders(below)}
    mirrored = {os.path.realpath(mirror.folder) for mirror in installation.config.mirrors}
    for place in sorted((below / "folders").glob("*/")):
        folder = known.get(place)
        if place == installation.state_dir or lock.is_held(place):
            continue
        if folder is None:
            why = "of a folder that is not known any more"
        elif str(folder) in mirrored:
            why = f"of {folder}, which the config mirrors too"
        elif not os.path.lexists(folder):
            why = f"of {folder}, which is gone"
        else:
            continue
        yield warning("copies", f"{place} is what --folder made {why}", f"rm -r {shell_word(str(place))}")


def _of_former_mirrors(installation: Installation) -> Iterator[Finding]:
    """Embedded knowledge bases of mirrors that left the config, or have another target now."""
    served = {installation.embedded_base(mirror) for mirror in installation.config.mirrors}
    for base in sorted((installation.state_dir / BASES).glob("*/")):
        if base not in served:
            cure = f"rm -r {shell_word(str(base))}"
            if base.name in _recorded(installation):
                cure = f"{installation.cure(f'forget {base.name} --yes')} && {cure}"
            yield warning("copies", f"{base} is the knowledge base of no mirror that is in the config", cure)


def _recorded(installation: Installation) -> set[str]:
    """Mirrors that the state knows and the config does not."""
    from kbsync.cli.choosing import look_at

    state = look_at(installation)
    if state is None:
        return set()
    try:
        names = state.read(lambda tx: {record.name for record in tx.mirrors.all()})
    finally:
        state.close()
    return names - {mirror.name for mirror in installation.config.mirrors}


def _damaged(installation: Installation) -> Iterator[Finding]:
    """What was set aside may hold what was deleted since."""
    bases = [installation.embedded_base(mirror) for mirror in installation.config.mirrors]
    for place in (installation.state_dir, *(base for base in bases if base is not None)):
        for file in sorted(place.glob("*.db.damaged-*")):
            if not file.name.endswith(("-wal", "-shm")):
                cure = f"rm {shell_word(str(file))}*"
                yield warning("copies", f"{file} was set aside, for whoever wants to look at it", cure)
