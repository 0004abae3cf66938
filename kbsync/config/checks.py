"""What must hold between settings that are each fine: names, order of times, places, knowledge bases."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbsync.config.gptbots import cutting_problems
from kbsync.config.kinds import write_duration
from kbsync.config.model import Config, DocumentRule, LocalTargetConfig, MirrorConfig
from kbsync.config.places import is_inside, network_file_system
from kbsync.config.problems import Loc, path_shown
from kbsync.config.remote import RemoteTargetConfig, VectorizationConfig, is_in_the_clear, is_loopback
from kbsync.config.vectors import SERVICES, EmbeddingConfig, RerankConfig
from kbsync.config.zhipu import ZhipuSearchConfig, ZhipuTargetConfig, slicing_problems

_IN_THE_CLEAR = (
    "is not https, so the API key would travel in the clear; write https://, "
    "plain http:// is for hosts of your own network"
)
_ID_AND_SECRET = re.compile(r"[^.]+\.[^.]+")
_SHORTEST_ROOM = 60
"""Bytes that a prefix has to leave to the paths in document names."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A problem at `loc`. `rests_on`: the other settings it follows from."""

    loc: Loc
    message: str
    rests_on: tuple[Loc, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedDirectory:
    """A directory that a setting names: its real path, and what it is in a person's words."""

    loc: Loc
    real: Path
    what: str


def conflicts(config: Config) -> Iterator[Conflict]:
    """Everything that does not hold in `config`; looks at the disk where a setting names a place there."""
    for index, mirror in enumerate(config.mirrors):
        yield from mirror_findings(mirror, ("mirrors", index))
    yield from name_findings(config.mirrors)
    yield from base_findings(config.mirrors)
    yield from place_findings(config)
    yield from http_findings(config)
    if config.notify is not None and config.notify.command is None and config.notify.url is None:
        yield Conflict(("notify",), "tells nobody; allowed: command, url or url_file, or both")


def http_findings(config: Config) -> Iterator[Conflict]:
    """A listener that others than this machine reach wants to know who asks."""
    http = config.http
    if http is not None and http.token is None and not is_loopback(http.host):
        message = (
            f"is missing, and {http.host} is reached by other machines; "
            "set token or token_file, or listen on 127.0.0.1"
        )
        yield Conflict(("http", "token"), message, (("http", "listen"), ("http", "token_file")))
    for index, mirror in enumerate(config.mirrors):
        yield from callback_findings(mirror, config, ("mirrors", index, "target", "callback_base"))


def callback_findings(mirror: MirrorConfig, config: Config, loc: Loc) -> Iterator[Conflict]:
    """An address that is to be called, at `loc`, and that nobody would answer or everybody could see."""
    if not isinstance(mirror.target, ZhipuTargetConfig) or mirror.target.callback_base is None:
        return
    if config.http is None:
        message = "needs a listener that is called; add http: {listen: 127.0.0.1:9753}, or remove it"
        yield Conflict(loc, message, (("http",),))
    if is_in_the_clear(mirror.target.callback_base):
        message = "is not https, so the secret in its path would travel in the clear; write https://"
        yield Conflict(loc, message)


def mirror_findings(mirror: MirrorConfig, loc: Loc) -> Iterator[Conflict]:
    """What does not hold within one mirror, which stands at `loc`."""
    if mirror.settle_longest < mirror.settle:
        yield Conflict(
            (*loc, "settle_longest"),
            f"{write_duration(mirror.settle_longest)} is shorter than settle; "
            f"allowed: at least {write_duration(mirror.settle)}",
            ((*loc, "settle"),),
        )
    if _is_no_directory(mirror.folder):
        yield Conflict((*loc, "folder"), f"{path_shown(mirror.folder)} is a file; name a folder")
    for index, rule in enumerate(mirror.documents):
        yield from rule_findings(rule, (*loc, "documents", index))
    yield from target_findings(mirror, (*loc, "target"))


def target_findings(mirror: MirrorConfig, loc: Loc) -> Iterator[Conflict]:
    """What does not hold within a mirror's target, which stands at `loc`."""
    match mirror.target:
        case LocalTargetConfig() as local:
            yield from local_findings(local, loc)
        case ZhipuTargetConfig() as zhipu:
            yield from remote_findings(zhipu, loc)
            yield from signing_findings(zhipu, loc)
            yield from recall_findings(zhipu.search, (*loc, "search"))
            yield from prefix_findings(mirror, loc[:-1])
        case remote:
            yield from remote_findings(remote, loc)


def local_findings(target: LocalTargetConfig, loc: Loc) -> Iterator[Conflict]:
    """What does not hold within an embedded target, which stands at `loc`."""
    if target.path is not None and _is_no_directory(target.path):
        yield Conflict((*loc, "path"), f"{path_shown(target.path)} is a file; name a folder")
    kind = target.path and network_file_system(target.path)
    if kind:
        message = (
            f"lies on a network file system ({kind}), where locks do not hold; name a place on a local disk"
        )
        yield Conflict((*loc, "path"), message)
    yield from embedding_findings(target.embedding, (*loc, "embedding"))
    yield from service_findings(target.rerank, (*loc, "rerank"))


def embedding_findings(embedding: EmbeddingConfig, loc: Loc) -> Iterator[Conflict]:
    """What does not hold within the settings of an embedding, which stand at `loc`."""
    path, rests_on = (*loc, "path"), ((*loc, "type"),)
    if embedding.type == "onnx" and embedding.path is None:
        yield Conflict(path, "is missing; type onnx needs the path of the model", rests_on)
    if embedding.type != "onnx" and embedding.path is not None:
        yield Conflict(path, f"has no meaning with type {embedding.type}; remove it", rests_on)
    yield from service_findings(embedding, loc)


def service_findings(service: EmbeddingConfig | RerankConfig, loc: Loc) -> Iterator[Conflict]:
    """What does not hold within the settings of a service for vectors or ranking."""
    rests_on = ((*loc, "type"),)
    if service.type not in SERVICES:
        for key in _set_of(service):
            yield Conflict((*loc, key), f"has no meaning with type {service.type}; remove it", rests_on)
        return
    if service.base_url is None:
        yield Conflict((*loc, "base_url"), f"is missing; type {service.type} needs its address", rests_on)
    elif service.api_key is not None and is_in_the_clear(service.base_url):
        yield Conflict((*loc, "base_url"), _IN_THE_CLEAR)
    if not service.model and service.type != "tei":
        yield Conflict((*loc, "model"), f"is missing; type {service.type} needs its name", rests_on)


def _set_of(service: EmbeddingConfig | RerankConfig) -> Iterator[str]:
    """The keys for services that are set."""
    names = [each.name for each in dataclasses.fields(service) if each.name not in ("type", "path")]
    default = type(service)()
    return (name for name in names if getattr(service, name) != getattr(default, name))


def remote_findings(target: RemoteTargetConfig, loc: Loc) -> Iterator[Conflict]:
    """What does not hold within a target at a service, which stands at `loc`."""
    if is_in_the_clear(target.base_url):
        yield Conflict((*loc, "base_url"), _IN_THE_CLEAR)
    if target.ca_file is not None and not _may_be_file(target.ca_file):
        yield Conflict(
            (*loc, "ca_file"), f"{path_shown(target.ca_file)} is no file; name one of certificates"
        )
    yield from vectorization_findings(target.vectorization, (*loc, "vectorization"))


def signing_findings(target: ZhipuTargetConfig, loc: Loc) -> Iterator[Conflict]:
    """A key that nothing can be signed with."""
    if target.auth != "jwt" or target.api_key.absent:
        return
    if _ID_AND_SECRET.fullmatch(target.api_key.reveal()) is None:
        message = "jwt needs an api_key of the form id.secret, to sign with the secret; set auth: key"
        yield Conflict((*loc, "auth"), message, ((*loc, "api_key"),))


def recall_findings(search: ZhipuSearchConfig, loc: Loc) -> Iterator[Conflict]:
    """A weight where nothing is weighed, in the settings of a search at `loc`."""
    if search.recall_ratio is not None and search.recall_method != "mixed":
        message = f"has no meaning with recall_method {search.recall_method}; remove it"
        yield Conflict((*loc, "recall_ratio"), message, ((*loc, "recall_method"),))


def vectorization_findings(waiting: VectorizationConfig, loc: Loc) -> Iterator[Conflict]:
    """What does not hold between the times at `loc`."""
    if waiting.poll_longest < waiting.poll_first:
        message = (
            f"{write_duration(waiting.poll_longest)} is shorter than poll_first; "
            f"allowed: at least {write_duration(waiting.poll_first)}"
        )
        yield Conflict((*loc, "poll_longest"), message, ((*loc, "poll_first"),))


def prefix_findings(mirror: MirrorConfig, loc: Loc) -> Iterator[Conflict]:
    """A prefix, of the mirror at `loc`, that leaves no room for paths in the names at its target."""
    from kbsync.core.names import Naming

    if Naming(mirror.prefix, mirror.names).short_of("x" * _SHORTEST_ROOM):
        message = "is so long that no room is left for paths in document names; choose a shorter one"
        yield Conflict((*loc, "prefix"), message)


def rule_findings(rule: DocumentRule, loc: Loc) -> Iterator[Conflict]:
    """Settings in a document rule that do not go together."""
    for key, message in slicing_problems(rule.match, rule.settings.get("zhipu", {})):
        yield Conflict((*loc, "zhipu", key), message, ((*loc, "match"),))
    for key, message in cutting_problems(rule.match, rule.settings.get("gptbots", {})):
        yield Conflict((*loc, "gptbots", key), message, ((*loc, "match"),))


def _may_be_file(path: Path) -> bool:
    """A file lies there, or it cannot be looked at."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _is_no_directory(path: Path) -> bool:
    """Something else than a directory lies there for certain; what cannot be looked at is not judged."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def name_findings(mirrors: Sequence[MirrorConfig]) -> Iterator[Conflict]:
    """Names that two mirrors have; told at the later one."""
    first: dict[str, int] = {}
    for index, mirror in enumerate(mirrors):
        earlier = first.setdefault(mirror.name, index)
        if earlier != index:
            there: Loc = ("mirrors", earlier, "name")
            message = f"{mirror.name} is the name of mirrors[{earlier}] too; give each its own"
            yield Conflict(("mirrors", index, "name"), message, (there,))


def base_findings(mirrors: Sequence[MirrorConfig]) -> Iterator[Conflict]:
    """Mirrors that get into each other's way in one knowledge base; told at the later one."""
    users: dict[tuple[str, ...], list[int]] = {}
    for index, mirror in enumerate(mirrors):
        users.setdefault(mirror.target.base_key(mirror.name), []).append(index)
    for indices in users.values():
        for first, second in itertools.combinations(indices, 2):
            if mirrors[first].name != mirrors[second].name:  # else said already
                yield from pair_findings(mirrors[first], first, mirrors[second], second)


def pair_findings(mirror: MirrorConfig, first: int, other: MirrorConfig, second: int) -> Iterator[Conflict]:
    """What does not hold between two mirrors that use one knowledge base."""
    here, there = ("mirrors", second), ("mirrors", first)
    targets: tuple[Loc, ...] = ((*there, "target"), (*here, "target"))
    if not other.target.shares_base:
        message = f"is the knowledge base of mirror {mirror.name} already; each mirror needs its own"
        yield Conflict((*here, "target", "path"), message, targets)
    if overlap(mirror.folder, other.folder):
        message = (
            f"{path_shown(other.folder)} and {path_shown(mirror.folder)} of mirror {mirror.name} overlap "
            "and go into one knowledge base; separate the folders or the knowledge bases"
        )
        yield Conflict((*here, "folder"), message, (*targets, (*there, "folder")))
    if other.target.shares_base and prefixes_clash(mirror.prefix, other.prefix):
        message = (
            f"{other.prefix!r} and {mirror.prefix!r} of mirror {mirror.name} begin each other in one "
            "knowledge base; choose prefixes that do not, such as guides/ and faq/"
        )
        yield Conflict((*here, "prefix"), message, (*targets, (*there, "prefix")))


def prefixes_clash(one: str, other: str) -> bool:
    """One begins the other, so a document name would not tell whose it is."""
    return one.startswith(other) or other.startswith(one)


def overlap(one: Path, other: Path) -> bool:
    """The two are one directory, or one lies in the other; symlinks are followed."""
    return is_inside(one, other) or is_inside(other, one)


def place_findings(config: Config) -> Iterator[Conflict]:
    """Places of ours within mirrored folders, where writing would wake us, and the reverse."""
    ours = list(_own_places(config))
    for index, mirror in enumerate(config.mirrors):
        loc: Loc = ("mirrors", index, "folder")
        folder = _place(loc, mirror.folder, f"the mirrored folder {path_shown(mirror.folder)}")
        for place in ours:
            if place.real.is_relative_to(folder.real):
                yield _nested(place, folder)
            elif folder.real.is_relative_to(place.real):
                yield _nested(folder, place)


def _own_places(config: Config) -> Iterator[NamedDirectory]:
    if config.state_dir is not None:
        what = f"the state directory {path_shown(config.state_dir)}"
        yield _place(("state_dir",), config.state_dir, what)
    for index, mirror in enumerate(config.mirrors):
        match mirror.target:
            case LocalTargetConfig(path=Path() as path):
                what = f"the knowledge base {path_shown(path)}"
                yield _place(("mirrors", index, "target", "path"), path, what)


def _place(loc: Loc, path: Path, what: str) -> NamedDirectory:
    return NamedDirectory(loc, Path(os.path.realpath(path)), what)


def _nested(inner: NamedDirectory, outer: NamedDirectory) -> Conflict:
    message = f"{inner.what} lies inside {outer.what}; name a place outside of it"
    return Conflict(inner.loc, message, (outer.loc,))
