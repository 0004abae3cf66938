"""What was tried with `--folder` becomes the mirror of a config: a second copy of the text would never learn
of a deletion (promise 11).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.config import places
from kbsync.config.model import folder_name
from kbsync.core.printable import printable, shell_word
from kbsync.errors import UsageError
from kbsync.installation import BASES, STATE_FILE
from kbsync.secrecy import make_private_folder
from kbsync.state import lock

if TYPE_CHECKING:
    from kbsync.installation import Installation


@contextmanager
def held_trial(folder: Path) -> Iterator[Path | None]:
    """The state directory of `folder` without a config, kept from everybody else; None where there is none.

    Raises `LockedError` while a kbsync works on it.
    """
    try:
        place = places.folder_state_dir(folder, places.state_home(os.environ))
    except UsageError:  # no home is known
        yield None
        return
    if not (place / STATE_FILE).exists():
        yield None
        return
    with lock.held(place):
        yield place


def take_over(trial: Path, fresh: Installation) -> str:
    """Move state and knowledge base of a trial, which is held, to those of a new config; what was done.

    Where the config's mirror has another knowledge base they stay, and the sentence has what removes them.
    """
    mirror, state_dir = fresh.config.mirrors[0], fresh.state_dir
    base = fresh.embedded_base(mirror)
    if base is None or base.exists():
        why = "has a knowledge base of its own" if base is None else f"has {printable(str(base))} already"
        return (
            f"{mirror.name} {why}: what was mirrored with --folder stays in {printable(str(trial))}; "
            f"to remove it: rm -r {shell_word(str(trial))}"
        )
    places.check_state_dir(state_dir, [mirror.folder])
    with lock.held(state_dir):
        _move(trial, trial / BASES / folder_name(Path(os.path.realpath(mirror.folder))), base, state_dir)
    return "what was mirrored with --folder is taken over; nothing is indexed once more"


def _move(trial: Path, source: Path, base: Path, state_dir: Path) -> None:
    """The knowledge base first: whatever ends this half way, the next pass adopts what is in it."""
    from kbsync.state.moving import move_mirror

    make_private_folder(base.parent)
    if source.exists():
        shutil.move(source, base)
    move_mirror(trial / STATE_FILE, state_dir / STATE_FILE)
    shutil.rmtree(trial)
