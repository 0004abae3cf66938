"""The config block of `type: local`, the built-in knowledge base, and how to open it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from kbsync.config.kinds import Choice, Location
from kbsync.config.places import is_no_directory, network_file_system
from kbsync.config.problems import Conflict, Loc, format_path
from kbsync.dataclass import dataclass
from kbsync.permissions import exists
from kbsync.targets.indexed.config import IndexedTargetConfig

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.contract.target import Target, TargetContext


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTargetConfig(IndexedTargetConfig):
    """The built-in knowledge base. If `path` is None, it is `kb/<mirror>` under the state directory."""

    type: Annotated[Literal["local"], Choice("`local`: a built-in knowledge base on this machine")] = "local"
    path: Annotated[
        Path | None,
        Location(
            "where to keep the knowledge base: on a local disk, outside every mirrored folder; default: "
            "`kb/<mirror>` in the state directory"
        ),
    ] = None

    def base_key(self, mirror: str) -> tuple[str, ...]:
        """Return a key that two mirrors share if and only if they would use the same knowledge base."""
        if self.path is None:
            return ("local", "default", mirror)
        return ("local", "path", os.path.realpath(self.path))

    def folder(self, state_dir: Path, mirror: str) -> Path:
        """The knowledge base's folder."""
        return self.path or state_dir / "kb" / mirror

    def conflicts(self, mirror: MirrorConfig, loc: Loc) -> Iterator[Conflict]:
        """Yield conflicts within the block at `loc`."""
        if self.path is not None:
            if is_no_directory(self.path):
                yield Conflict((*loc, "path"), f"{format_path(self.path)} is a file; choose a folder")
            if kind := network_file_system(self.path):
                message = (
                    f"is on a network file system ({kind}), where file locks are unreliable; "
                    "choose a path on a local disk"
                )
                yield Conflict((*loc, "path"), message)
        yield from IndexedTargetConfig.conflicts(self, mirror, loc)

    def open(self, context: TargetContext) -> Target:
        """Return the knowledge base, creating it if it doesn't exist."""
        from kbsync.targets.local.target import LocalTarget

        return LocalTarget.open(self, context)

    def better_vectors(self, base: Path) -> tuple[int, int] | None:
        """Return how many passages have a better vector, and the total number of passages."""
        from kbsync.index.better import count_made

        return count_made(base) if self.embedding.type == "builtin" else None

    def open_for_plan(self, context: TargetContext) -> Target:
        """Return the knowledge base, or an empty one if the first pass hasn't created it yet."""
        if exists(self.folder(context.state_dir, context.mirror)):
            return self.open(context)
        from kbsync.targets.local.target import Unmade

        return Unmade(self)
