"""Finds the folders that several mirrors scan."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.core.text import printable

if TYPE_CHECKING:
    from kbsync.config.model import Config, MirrorConfig


def describe_overlaps(config: Config, name: str) -> Iterator[str]:
    """Yield a sentence for each mirror that shares files with the mirror `name`. Reads the disk, so it may
    block.
    """
    from kbsync.core.selection import IGNORE_FILE

    added = next(mirror for mirror in config.mirrors if mirror.name == name)
    for other in config.mirrors:
        for outer, inner in ((other, added), (added, other)):
            root, below = (Path(os.path.realpath(mirror.folder)) for mirror in (outer, inner))
            if other is not added and below.is_relative_to(root) and enters(root, below, outer):
                verb = "is inside" if inner is added else "contains"
                yield printable(
                    f"{added.folder} {verb} {other.folder} of mirror {other.name}, so searches list the "
                    f"files in {inner.folder} twice; to leave them out of {outer.name}, add "
                    f"/{below.relative_to(root)}/ to {outer.folder / IGNORE_FILE}"
                )


def enters(root: Path, folder: Path, mirror: MirrorConfig | None = None) -> bool:
    """Return whether the mirror of `root` scans `folder`, which is inside it. If the mirror excludes the
    folder, another mirror may use it.
    """
    if folder == root:
        return True
    from kbsync.core.model import FileChoice, Formats
    from kbsync.core.selection import Rules
    from kbsync.source.stat import RulesUnknown, rules_in

    include, exclude = (None, ()) if mirror is None else (mirror.include, mirror.exclude)
    path = folder.relative_to(root)
    try:
        rules = Rules(include, exclude, Formats())
        for above in (*reversed(path.parents), path):
            relative = "" if above == Path() else str(above)
            if rules.enters(relative).choice is not FileChoice.SELECTED:
                return False
            with suppress(OSError):
                rules = rules_in(root / above, rules, relative)
    except RulesUnknown:
        # The mirror stops there.
        return False
    return True
