"""Builds config blocks of targets on a service, and their context, without a file."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from kbsync.config.secrets import Secret
from kbsync.config.target import RemoteTargetConfig, VectorizationConfig
from kbsync.contract.target import TargetContext

NOWHERE = Path(os.devnull)
WAITING = {field.name for field in fields(VectorizationConfig)}
SECRETS = ("api_key", "proxy", "callback_authorization")

Block = TypeVar("Block", bound=RemoteTargetConfig)


def block(kind: type[Block], **settings: Any) -> Block:
    """Return a block from settings, including those of `vectorization`; secrets are plain texts."""
    waiting = {key: settings.pop(key) for key in WAITING & settings.keys()}
    secrets = {key: Secret(settings.pop(key)) for key in SECRETS if settings.get(key) is not None}
    return kind(vectorization=VectorizationConfig(**waiting), **settings, **secrets)


def target_context(mirror: str = "", **options: Any) -> TargetContext:
    """Return a context for a target that writes nothing."""
    return TargetContext(mirror, NOWHERE, NOWHERE, **options)
