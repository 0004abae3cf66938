"""What was tried with `--folder` becomes the mirror of a config: a second copy of the text would never learn
of a deletion (promise 11).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.config import places
from kbsync.config.model import folder_name
from kbsync.core.text import printable, shell_word
from kbsync.errors import UsageError
from kbsync.installation import BASES, STATE_FILE
from kbsync.permissions import make_private_folder
from kbsync.state import lock
from kbsync.state.glance import Glance

if TYPE_CHECKING:
    from kbsync.installation import Installation


@dataclass(frozen=True, slots=True)
class Trial:
    """The state directory of a folder without a config, held. `into`: where it may move to, held as well."""

    place: Path
    into: Path | None


@contextmanager
def held_trial(folder: Path, state_dir: Path, *, is_embedded: bool) -> Iterator[Trial | None]:
    """What was tried with `folder`, kept from everybody else; None where there is nothing of it.

    `state_dir` is that of the new config; it is held too where the trial can move there, which needs an
    embedded knowledge base that is not there yet. Both are held before anything is written or made: who is
    refused can type the same command again. Raises `LockedError` while a kbsync works on one of them, and
    `UsageError` for a state directory that cannot be one.
    """
    try:
        # `--folder` goes by the real path too, whichever symlink leads there.
        place = places.folder_state_dir(Path(os.path.realpath(folder)), places.state_home(os.environ))
    except UsageError:  # no home is known
        yield None
        return
    # A config whose state lies in there goes on with it as it is.
    if not (place / STATE_FILE).exists() or places.is_inside(state_dir, place):
        yield None
        return
    with lock.held(place):
        if not is_embedded or (state_dir / BASES / folder_name(folder)).exists():
            yield Trial(place, None)
            return
        places.check_state_dir(state_dir, [folder])
        with lock.held(state_dir):
            yield Trial(place, state_dir)


def take_over(trial: Trial, fresh: Installation) -> str:
    """Move state and knowledge base of a trial to those of a new config; what was done, in a sentence.

    Where they cannot move they stay as they are, and the sentence has what removes them.
    """
    from kbsync.state.move import move_mirror, obstacle

    mirror, place = fresh.config.mirrors[0], trial.place
    base = fresh.embedded_base(mirror)
    with closing(Glance(place / STATE_FILE)) as state:
        is_shared = len(state.read(lambda tx: tx.mirrors.all())) > 1
    if is_shared:  # a config with this as its `state_dir` has mirrors in there too
        return f"{printable(str(place))} has more than what was mirrored with --folder, and stays as it is"
    if base is None:
        return _left(trial, f"{mirror.name} has a knowledge base of its own")
    if trial.into is None or base.exists():
        return _left(trial, f"{mirror.name} has {printable(str(base))} already")
    if why := obstacle(place / STATE_FILE, fresh.state_file, mirror.name):
        return _left(trial, why)
    # The knowledge base first: whatever ends this half way, the next pass adopts what is in it.
    make_private_folder(base.parent)
    source = place / BASES / folder_name(Path(os.path.realpath(mirror.folder)))
    if source.exists():
        shutil.move(source, base)
    move_mirror(place / STATE_FILE, fresh.state_file)
    shutil.rmtree(place)
    return "what was mirrored with --folder is taken over; nothing is indexed again"


def _left(trial: Trial, why: str) -> str:
    place = str(trial.place)
    return (
        f"{why}: what was mirrored with --folder stays in {printable(place)}; "
        f"to remove it: rm -r {shell_word(place)}"
    )
