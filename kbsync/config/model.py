"""The settings as values: all keys that a config may contain, with their defaults.

This module doesn't read files. Each key is described once, in its annotation; `settings_of` and `blocks`
derive validation, the JSON schema and the list of known keys from these classes. Durations are in seconds.
Paths are absolute, with `~` expanded and symlinks kept.
"""

from __future__ import annotations

import functools
import os
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from kbsync.config.kinds import (
    About,
    Address,
    Bytes,
    Choice,
    Duration,
    Fraction,
    Location,
    Mark,
    NotAKey,
    OneOf,
    Others,
    Pattern,
    Quiet,
    Text,
    ValueKind,
    Whole,
)
from kbsync.config.secrets import Confidential, Secret
from kbsync.config.target import TargetConfig
from kbsync.core.selection import path_matcher
from kbsync.dataclass import dataclass
from kbsync.file_systems import real_path
from kbsync.targets.registry import DEFAULT_TARGET, TARGETS, WITH_DOCUMENT_SETTINGS

if TYPE_CHECKING:
    from kbsync.contract.target import Cluster

Occasion = Literal["halted", "recovered", "quarantined"]

NAME_PATTERN = r"[a-z0-9][a-z0-9-]*"
MAX_NAME_LENGTH = 100
"""Maximum length of a name.

A directory is named after it, with a hash appended, and file systems allow 255 bytes.
"""


def _document_settings(target: str) -> Mapping[str, ValueKind]:
    settings: Mapping[str, ValueKind] = TARGETS[target].document_settings
    return settings


@dataclass(frozen=True, slots=True)
class DocumentRule:
    """Settings for the documents that `match` selects.

    `settings`: the settings by target type. In a file, each target type is a key next to `match`: `{match:
    "faq/*.csv", <type>: {…}}`.
    """

    match: Annotated[
        str,
        Pattern(
            'gitignore pattern for the documents that these settings apply to, such as `"faq/*.csv"`',
            positive=True,
        ),
    ]
    settings: Annotated[
        Mapping[str, Mapping[str, Any]],
        Others(
            "settings for the matching documents", "target type", WITH_DOCUMENT_SETTINGS, _document_settings
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeletionRules:
    """Limits on deletions. Exceeding both limits within the window requires approval.

    `never`: whether nothing is ever deleted.
    """

    hold_fraction: Annotated[
        float, Fraction("hold deletions that exceed `hold_count` and this share of the documents")
    ] = 0.2
    hold_count: Annotated[
        int, Whole("hold deletions that exceed `hold_fraction` and this number of documents")
    ] = 5
    hold_window: Annotated[
        float, Duration("also count earlier deletions in this period", most=30 * 86400.0)
    ] = 3600.0
    never: Annotated[bool, NotAKey()] = False


@dataclass(frozen=True, slots=True)
class PrepareConfig:
    """A Dask cluster that prepares documents."""

    dask: Annotated[
        str,
        Text(
            "URL of the scheduler, such as `tcp://scheduler:8786` or `tls://scheduler:8786`",
            r"(tcp|tls|ws|wss|ucx)://[^\s/?#@]+:[0-9]{1,5}",
            "a URL such as tcp://scheduler:8786 or tls://scheduler:8786",
        ),
    ]
    folder: Annotated[
        str,
        Text(
            "path of the mirror's folder on the workers, in a shared file system; without it, kbsync sends "
            "the files to the workers",
            r"(/[^\x00-\x1f\x7f]*)?",
            "an absolute path, such as /mnt/share/handbook",
            4096,
        ),
    ] = ""
    bytes_in_flight: Annotated[
        int,
        Bytes("maximum total size of the files in flight, in bytes; a larger file is sent alone", least=1),
    ] = 268435456

    @property
    def cluster(self) -> Cluster:
        """Return the cluster for the target."""
        from kbsync.contract.target import Cluster  # imported late: few mirrors have a cluster

        return Cluster(self.dask, self.folder, self.bytes_in_flight)


MIRROR_NAME = Text(
    "unique name of this mirror; lower-case letters, digits and `-`",
    NAME_PATTERN,
    "lower-case letters, digits and -, beginning with a letter or digit",
    MAX_NAME_LENGTH,
)


@dataclass(frozen=True, slots=True)
class MirrorConfig:
    """One folder and its knowledge base.

    If `include` is None, every format that the target accepts is included.
    """

    name: Annotated[str, MIRROR_NAME]
    folder: Annotated[
        Path, Location("the folder to mirror; relative to the config's directory, `~` is your home")
    ]
    include: Annotated[
        tuple[Annotated[str, Pattern()], ...] | None,
        About(
            "the files to mirror, in [gitignore syntax](selection.md); quote each pattern, such as "
            '`"**/*.md"`; default: every format the target accepts',
            empty="is empty, so nothing would be mirrored; list patterns such as "
            '"**/*.md", or remove the key to include every format',
        ),
    ] = None
    exclude: Annotated[
        tuple[Annotated[str, Pattern()], ...],
        About('the files to exclude, such as `"drafts/"`; `.kbsyncignore` files in the folder apply too'),
    ] = ()
    settle: Annotated[
        float, Duration("send a file after it has been unchanged for this long", least=0.1, most=86400.0)
    ] = 2.0
    settle_longest: Annotated[
        float,
        Duration(
            "send even a changing file after this time, if a consistent copy can be read",
            least=0.1,
            most=86400.0,
        ),
    ] = 60.0
    rescan: Annotated[
        float,
        Duration(
            "how often to compare the whole folder, in case events were missed", least=1.0, most=30 * 86400.0
        ),
    ] = 900.0
    deep_rescan: Annotated[
        float, Duration("how often to read every file and audit the knowledge base", least=1.0)
    ] = 86400.0
    prefix: Annotated[
        str,
        Text(
            "the start of each document name, such as `guides/`; in a shared knowledge base, no prefix may "
            "begin with another",
            longest=200,
        ),
    ] = ""
    renames: Annotated[
        Literal["replace", "keep"],
        Choice(
            "for services that can't rename documents: `replace` re-uploads a renamed file; `keep` keeps "
            "the old name"
        ),
    ] = "replace"
    names: Annotated[
        Literal["tagged", "plain"],
        Choice(
            "for services that store only a name: `tagged` adds a [mark](targets/zhipu.md#names) to "
            "document names; `plain` doesn't"
        ),
    ] = "tagged"
    observer: Annotated[
        Literal["auto", "native", "polling"],
        Choice(
            "how to detect changes: `native` (kernel events), `polling` (for network and bind mounts), or "
            "`auto` (events [where they can be trusted](docker.md#how-changes-are-noticed))"
        ),
    ] = "auto"
    quiet_hours: Annotated[
        str | None,
        Quiet(
            '[when to pause](commands.md#quiet-hours), in local time, such as `"22:00-06:00"` or '
            '`"mon-fri 08:00-18:00, sat 10:00-12:00"`; `never` for none; default: the top-level setting'
        ),
    ] = None
    deletions: Annotated[
        DeletionRules,
        About(
            "hold [deletions](deletions.md) for your approval if they exceed both of these limits, or affect "
            "all documents; instead of limits, `never` [keeps every document](deletions.md#never-delete)",
            words={"never": DeletionRules(never=True)},
        ),
    ] = field(default_factory=DeletionRules)
    adopt: Annotated[
        Literal["content", "name"],
        Choice(
            "how to recognize this mirror's documents if the state is lost: by identical `content`, or by "
            "`name` alone"
        ),
    ] = "content"
    documents: Annotated[
        tuple[DocumentRule, ...],
        About(
            "settings for particular documents, by target type; the first match wins; settings for other "
            "target types have no effect"
        ),
    ] = ()
    prepare: Annotated[
        PrepareConfig | None,
        About(
            "for `local` or `postgres`: a [Dask cluster](cluster.md) that parses documents and embeds "
            "passages with your own model; default: kbsync does this itself"
        ),
    ] = None
    target: Annotated[
        TargetConfig,
        OneOf("the knowledge base; default: `{type: local}`", "target type", DEFAULT_TARGET, TARGETS),
    ] = field(default_factory=lambda: TARGETS[DEFAULT_TARGET]())  # noqa: PLW0108 (loads the type late)


LISTENER_TOKEN = Confidential(
    "a token of at least 16 characters, which clients send as a Bearer token or as the password; "
    "required unless `listen` is a loopback address; also used for [MCP over HTTP](mcp.md#over-http)",
    r"[\x21-\x7e]{16,}",
    "the token alone, at least 16 characters without spaces",
)


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """The listener, which serves the web page, health checks, metrics, and callbacks from services."""

    listen: Annotated[str, Address("`host:port` to listen on, such as `127.0.0.1:9753`")]
    token: Annotated[Secret | None, LISTENER_TOKEN] = None

    @property
    def host(self) -> str:
        """Return the host without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port, 1 to 65535."""
        return int(self.listen.rpartition(":")[2])


@dataclass(frozen=True, slots=True)
class NotifyConfig:
    """Where to send notifications: a command (JSON on stdin), a URL (JSON by POST), or both."""

    command: Annotated[
        tuple[Annotated[str, Text(allowed="text on one line", longest=4096)], ...] | None,
        About(
            "the program and its arguments, such as `[/usr/local/bin/tell]`; it receives JSON on stdin and "
            "is killed after 10 s",
            empty="is empty; set a program, such as [/usr/local/bin/tell]",
        ),
    ] = None
    url: Annotated[
        Secret | None,
        Confidential(
            "the URL to which JSON is sent by POST; time limit 10 s",
            r"https?://[^\s/?#]+[^\s]*",
            "a URL that begins with https:// or http://",
        ),
    ] = None
    on: Annotated[
        tuple[Annotated[Occasion, Choice()], ...],
        About(
            "events to send; default: all",
            empty="is empty; list events, or remove the key to be notified of all",
        ),
    ] = get_args(Occasion)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a command requires a config to have.

    Without `secrets`, keys and tokens may be missing until they are used, for example if they are only in the
    environment of a service. Without `bases`, the ids of knowledge bases may be missing and get placeholders,
    because a base that doesn't exist yet has no id. Without `mirrors`, the config doesn't have to contain any
    yet. Without `folders`, a file may have taken the place of a mirror's folder.
    """

    secrets: bool = True
    bases: bool = True
    mirrors: bool = True
    folders: bool = True


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """How a config was read: the SHA-256 digest of its file, and which parts were required."""

    digest: bytes
    needs: Needs


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. `path`: the file they came from, or None. `source`: how it was read."""

    mirrors: Annotated[
        tuple[MirrorConfig, ...],
        About("the folders to mirror; at least one", empty="is empty; list at least one folder to mirror"),
    ]
    state_dir: Annotated[
        Path | None,
        Location(
            "where to keep the state: a directory on a local disk, outside every mirrored folder; default: "
            "`$STATE_DIRECTORY` or a standard directory"
        ),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        Choice("log this level and above; `--log-level` and `--quiet` override it; default: `info`"),
    ] = None
    quiet_hours: Annotated[
        str, Quiet("[quiet hours](commands.md#quiet-hours) for all mirrors that don't set their own")
    ] = ""
    http: Annotated[
        HttpConfig | None,
        About(
            "the [listener](listener.md): web page, health checks, [metrics](monitoring.md), callbacks from "
            "services; without it, kbsync doesn't listen"
        ),
    ] = None
    notify: Annotated[
        NotifyConfig | None,
        About(
            "[notifications](listener.md#get-notifications) when kbsync needs your attention; they never "
            "delay a mirror"
        ),
    ] = None
    path: Annotated[Path | None, NotAKey()] = None
    # Not compared, because a changed comment doesn't change any setting.
    source: Annotated[ConfigSource | None, NotAKey()] = field(default=None, compare=False, repr=False)


def settings_for(mirror: MirrorConfig, path: str, target_type: str) -> Mapping[str, Any]:
    """Return the settings of the first rule that matches `path` (relative, with `/`).

    If no rule matches, the result is empty.
    """
    for rule in mirror.documents:
        if path_matcher(rule.match)(path):
            return rule.settings.get(target_type, {})
    return {}


def folder_name(folder: Path) -> str:
    """Return a name for a mirror of `folder`: its basename in lowercase, with `-` in place of special
    characters, except at the beginning and the end.
    """
    # Don't resolve symlinks, so that the mirror gets the name that the user typed, not that of a symlink's
    # target.
    basename = os.path.basename(os.path.abspath(folder)).lower()  # noqa: PTH100, PTH119
    return re.sub(r"[^a-z0-9]", "-", basename).strip("-")[:MAX_NAME_LENGTH].rstrip("-") or "folder"


def free_name(folder: Path, mirrors: Sequence[MirrorConfig]) -> str:
    """Return a name for the mirror of `folder`, which may already be one of `mirrors`.

    If letters had to be replaced and another mirror already has the resulting name, a number is added to it.
    """
    real = real_path(folder)
    name, number = folder_name(folder), 1
    other_names = {mirror.name for mirror in mirrors if real_path(mirror.folder) != real}
    has_others = any(letter.isalnum() and not letter.isascii() for letter in folder.name)
    while has_others and name in other_names:
        number += 1
        name = f"{folder_name(folder)[: MAX_NAME_LENGTH - 10]}-{number}"
    return name


def folder_config(folder: Path) -> Config:
    """Return the config for `--folder DIR`: one mirror that keeps `folder` in the built-in knowledge base."""
    # Don't use Path's methods: `absolute` keeps `..`, and `expanduser` raises an error for an unknown user.
    absolute = Path(os.path.abspath(os.path.expanduser(folder)))  # noqa: PTH100, PTH111
    return Config(mirrors=(MirrorConfig(name=folder_name(absolute), folder=absolute),))


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a block.

    `hint` is its type without None. `default` is MISSING if there is no plain default.
    """

    hint: Any
    mark: Mark
    default: object
    is_required: bool


@functools.cache
def settings_of(block: type) -> Mapping[str, Field]:
    """Return the settings of `block` as a dict keyed by name, in the order of the model."""
    # Cached, because evaluating the hints is slow and reading a config needs them often.
    hints = get_type_hints(block, include_extras=True)
    marked = [(field, *bare(hints[field.name])) for field in fields(block)]
    return {
        field.name: Field(
            hint, mark, field.default, field.default is MISSING and field.default_factory is MISSING
        )
        for field, hint, mark in marked
        if not isinstance(mark, NotAKey)
    }


def bare(hint: Any) -> tuple[Any, Any]:
    """Return `hint` without Annotated and None, together with its mark, if any."""
    mark = None
    if get_origin(hint) is Annotated:
        hint, mark = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(member for member in get_args(hint) if member is not type(None))
    # The words of a choice are only in its type.
    if isinstance(mark, Choice) and get_origin(hint) is Literal:
        mark = replace(mark, words=get_args(hint))
    return hint, mark


@functools.cache
def secret_keys(block: type) -> tuple[str, ...]:
    """Return the keys of `block` that hold a secret. Each of them has a `_file` variant."""
    return tuple(key for key, setting in settings_of(block).items() if isinstance(setting.mark, Confidential))


def known_keys(block: type) -> tuple[str, ...]:
    """Return every key that `block` may have in a file, in the order of the model."""
    keys: list[str] = []
    for name, setting in settings_of(block).items():
        keys += setting.mark.names if isinstance(setting.mark, Others) else [name]
    return (*keys, *(f"{key}_file" for key in secret_keys(block)))


def blocks() -> Iterator[tuple[str, type]]:
    """Yield every class of the model with its location in the config; for example, `mirrors[].deletions`."""
    return _blocks(Config, None, "")


def _blocks(hint: Any, mark: object, home: str) -> Iterator[tuple[str, type]]:
    for member in mark.choices.values() if isinstance(mark, OneOf) else (hint,):
        if get_origin(member) is tuple:
            yield from _blocks(*bare(get_args(member)[0]), f"{home}[]")
        elif is_dataclass(member):
            yield home, member
            for key, setting in settings_of(member).items():
                yield from _blocks(setting.hint, setting.mark, f"{home}.{key}".removeprefix("."))
