"""Target types by the name a config gives them."""

from __future__ import annotations

from pathlib import Path

from kbsync.config.model import LocalTargetConfig, MirrorConfig
from kbsync.contract import Surroundings, Target


def open_target(mirror: MirrorConfig, surroundings: Surroundings) -> Target:
    """The target of a mirror. Raises `TargetError`, `UsageError` or `StateError` where it cannot be had."""
    match mirror.target:
        case LocalTargetConfig() as local:
            from kbsync.targets.local.target import LocalTarget

            return LocalTarget.open(
                local_folder(local, surroundings),
                embedding=local.embedding,
                max_bytes=local.max_bytes,
                surroundings=surroundings,
            )


def open_or_stand_in(mirror: MirrorConfig, surroundings: Surroundings) -> Target:
    """The target for reading; where it was not made yet, one that is empty and makes nothing."""
    match mirror.target:
        case LocalTargetConfig() as local:
            if not local_folder(local, surroundings).exists():
                from kbsync.targets.local.unmade import Unmade

                return Unmade(local.embedding, local.max_bytes)
            return open_target(mirror, surroundings)


def local_folder(config: LocalTargetConfig, surroundings: Surroundings) -> Path:
    """Where the embedded knowledge base of a mirror lies."""
    return config.path or surroundings.state_dir / "kb" / surroundings.mirror
