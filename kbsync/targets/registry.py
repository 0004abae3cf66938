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


def local_folder(config: LocalTargetConfig, surroundings: Surroundings) -> Path:
    """Where the embedded knowledge base of a mirror lies."""
    return config.path or surroundings.state_dir / "kb" / surroundings.mirror
