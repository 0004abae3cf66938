"""The fixed properties of a running mirror: its settings, and its binding to one knowledge base.

The engine doesn't use the config's own types: `kbsync.once.settings_of` converts them to these.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from kbsync.contract.target import (
    Limits,
    Listed,
    SupportsDigest,
    SupportsReembed,
    SupportsRename,
    SupportsReslice,
    Target,
)
from kbsync.core.model import Abilities, by_tag
from kbsync.core.names import Naming
from kbsync.core.quiet_hours import QuietHours
from kbsync.core.selection import Rules
from kbsync.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class DeletionLimits:
    """Limits on deletions.

    Deleting more than `fraction` of the documents and more than `count` of them within `window` seconds needs
    approval. `never`: whether nothing is deleted and no approval is requested.
    """

    fraction: float = 0.2
    count: int = 5
    window: float = 3600.0
    never: bool = False


@dataclass(frozen=True, slots=True)
class MirrorIdentity:
    """The properties by which the state identifies a mirror in the config.

    `location`: the knowledge base and prefix, as JSON in the config's terms, or '' if unknown. Two mirrors
    that would own the same documents have the same location.
    """

    name: str
    folder: str
    location: str = ""


def base_key(location: str) -> list[str]:
    """Return the parts of a `location` that identify the knowledge base: the target's type, then its keys.

    Return [] for ''.
    """
    return list(json.loads(location))[:-1] if location else []


@dataclass(frozen=True, slots=True)
class MirrorSettings:
    """A mirror's settings from its config, with durations in seconds. `root` is the real path of `given`.

    `document_settings` returns the target settings for a path; `fingerprint` changes whenever one of those
    settings does. `location`: see `MirrorIdentity`.
    """

    name: str
    root: Path
    target_type: str
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    settle: float = 2.0
    settle_longest: float = 60.0
    rescan: float = 900.0
    deep_rescan: float = 86400.0
    prefix: str = ""
    renames: str = "replace"
    names: str = "tagged"
    adopt: str = "content"
    observer: str = "auto"
    quiet_hours: tuple[QuietHours, ...] = ()
    absent_after: float = 15.0
    deletions: DeletionLimits = field(default_factory=DeletionLimits)
    document_settings: Callable[[str], Mapping[str, Any]] = lambda _path: {}
    fingerprint: str = ""
    given: Path | None = None
    location: str = ""

    @property
    def identity(self) -> MirrorIdentity:
        """The properties that identify the mirror in the state."""
        return MirrorIdentity(self.name, str(self.root), self.location)

    def resolved(self) -> MirrorSettings:
        """Return the settings with the current real path of `given`, because a symlink may have changed."""
        return self if self.given is None else replace(self, root=Path(os.path.realpath(self.given)))


@dataclass(frozen=True, slots=True)
class Binding:
    """A mirror's settings, bound to the knowledge base with the id `base`.

    `describe` explains a recipe in the config's terms, or returns '' if the target can't explain it.
    """

    settings: MirrorSettings
    mirror: int
    id: int
    limits: Limits
    abilities: Abilities
    recipe: Callable[[str], str]
    rules: Rules
    spool_dir: Path
    base: str = ""
    texts_once: bool = False
    describe: Callable[[str], str] = lambda _recipe: ""

    @property
    def naming(self) -> Naming:
        """The naming scheme for documents on the target."""
        return Naming(self.settings.prefix, "marked" if self.limits.marks else self.settings.names)

    def read(self, listed: Listed) -> Listed:
        """Return a listed document with the path and the digest from its name (ADR 12).

        A target that keeps our marker has already provided both. A shortened name doesn't contain the path,
        and every name contains only the beginning of the digest.
        """
        if self.limits.marks or (reading := self.naming.read_mangled(listed.name)) is None:
            return listed
        return replace(listed, path=reading.path, digest=by_tag(reading.tag))

    def short_of(self, listed: Listed) -> str:
        """Return the hash that replaces the path in a shortened name, as parsed by `read`, or '' if there is
        none.
        """
        is_named = not self.limits.marks and listed.path is None and listed.digest is not None
        reading = self.naming.read_mangled(listed.name) if is_named else None
        return "" if reading is None else reading.short


def abilities_of(target: Target, settings: MirrorSettings) -> Abilities:
    """Return the target's abilities, as far as the config allows them."""
    return Abilities(
        renames=isinstance(target, SupportsRename),
        updates=target.updates_in_place,
        reembeds=isinstance(target, SupportsReembed),
        reslices=isinstance(target, SupportsReslice),
        reads=isinstance(target, SupportsDigest),
        asks_before_reindexing=target.limits.paid,
        rename_policy=settings.renames,
        adopt=settings.adopt,
        keeps=settings.deletions.never,
    )


OTHER_SETTINGS = "other settings"
MAX_LISTED_CHANGES = 3


def changes_of(describe: Callable[[str], str], recipes: Iterable[tuple[str, str]]) -> str:
    """Describe which settings changed, as far as the recipes show; for example, `from knowledge_type 1 to
    knowledge_type 2`.
    """
    pairs = [(describe(before), describe(after)) for before, after in recipes]
    words = dict.fromkeys(
        f"from {before} to {after}" if before and after and before != after else OTHER_SETTINGS
        for before, after in pairs
    )
    return ", ".join([*list(words)[:MAX_LISTED_CHANGES], *(["…"] if len(words) > MAX_LISTED_CHANGES else [])])
