"""Keys and tokens that were given anew, taken into a config of which nothing else is taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from kbsync.config.model import Config, MirrorConfig


def with_secrets_of(config: Config, fresh: Config, names: Collection[str]) -> Config:
    """`config`, in which those of the named mirrors are as in `fresh` that differ in what is secret alone."""
    read = {mirror.name: mirror for mirror in fresh.mirrors if mirror.name in names}
    mirrors = [_renewed(mirror, read.get(mirror.name, mirror)) for mirror in config.mirrors]
    return dataclasses.replace(config, mirrors=tuple(mirrors))


def _renewed(mirror: MirrorConfig, fresh: MirrorConfig) -> MirrorConfig:
    """What is secret looks the same, whatever it is."""
    return fresh if repr(fresh) == repr(mirror) else mirror
