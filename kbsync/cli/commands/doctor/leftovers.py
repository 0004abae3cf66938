"""Finds copies of texts that no mirror uses: no pass would ever delete a document from them (promise 11)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from kbsync.cli.commands.doctor.command import CheckResult, warning
from kbsync.config import places
from kbsync.core.text import shell_word
from kbsync.errors import UsageError
from kbsync.installation import BASES, Installation
from kbsync.state import lock


def copies(installation: Installation) -> Iterator[CheckResult]:
    """Each with the command that removes it, where nobody else can have it."""
    found = [
        *_of_folders(installation),
        *_of_former_mirrors(installation),
        *_damaged(installation),
    ]
    yield from found
    if not found:
        yield CheckResult("copies", "none left over")


def _of_folders(installation: Installation) -> Iterator[CheckResult]:
    """States of `--folder`, where the folder is mirrored by a config as well, is gone, or is not known."""
    try:
        below = places.state_home(os.environ)
    except UsageError:
        return
    known = {each.state_dir: each.folder for each in places.known_folders(below)}
    mirrored = _folders(installation)
    used = [installation.state_dir, *_served(installation)]
    for place in sorted((below / "folders").glob("*/")):
        folder = known.get(place)
        if any(places.is_inside(each, place) for each in used) or lock.is_held(place):
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


def _of_former_mirrors(installation: Installation) -> Iterator[CheckResult]:
    """Embedded knowledge bases that no mirror of this config has.

    One of a mirror that the state records is not offered for removal: another config may have it, and a
    mirror that is back in its config goes on with it.
    """
    served = _served(installation)
    bases = sorted((installation.state_dir / BASES).glob("*/"))
    left = [base for base in bases if not any(places.is_inside(each, base) for each in served)]
    if not left:
        return
    folders = _recorded(installation)
    targets = {mirror.name: installation.embedded_base(mirror) for mirror in installation.config.mirrors}
    for base in left:
        name = base.name
        if folders is None:
            yield warning("copies", f"{base} is a knowledge base, and there is no state that tells whose")
        elif name not in folders:
            detail = f"{base} is the knowledge base of no mirror that the config or the state knows"
            cure = f"rm -r {shell_word(str(base))}"
            yield warning("copies", detail, cure)
        elif name in targets:
            now = targets[name] or "a service"
            yield warning("copies", f"{name} is mirrored into {now}; {base} is what it had before")
        elif os.path.realpath(folders[name]) not in _folders(installation):  # else it gets a new name
            detail = f"{base} is the knowledge base of {name}, and {name} is not in this config"
            end = installation.cure(f"forget {name}")
            yield warning("copies", f"{detail}; if it is in no other either, end it with: {end}")


def _folders(installation: Installation) -> set[str]:
    """Real paths of the folders that the config mirrors."""
    return {os.path.realpath(mirror.folder) for mirror in installation.config.mirrors}


def _served(installation: Installation) -> list[Path]:
    """The embedded knowledge bases of the config."""
    bases = map(installation.embedded_base, installation.config.mirrors)
    return [base for base in bases if base is not None]


def _recorded(installation: Installation) -> dict[str, str] | None:
    """The mirrors that the state knows, each with its folder; None where there is no state."""
    from kbsync.cli.context import look_at

    state = look_at(installation)
    if state is None:
        return None
    try:
        return state.read(lambda tx: {record.name: record.folder for record in tx.mirrors.all()})
    finally:
        state.close()


def _damaged(installation: Installation) -> Iterator[CheckResult]:
    """What was set aside may hold what was deleted since."""
    for place in (installation.state_dir, *_served(installation)):
        for file in sorted(place.glob("*.db.damaged-*")):
            if not file.name.endswith(("-wal", "-shm")):
                cure = f"rm {shell_word(str(file))}*"
                yield warning("copies", f"{file} was set aside, in case somebody wants to inspect it", cure)
