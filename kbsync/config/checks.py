"""Checks combinations of valid settings: the order of times, names, folders and knowledge bases.

A target's block checks its own settings (`TargetConfig.conflicts`).
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from kbsync.config.kinds import write_duration
from kbsync.config.model import Config, MirrorConfig, Needs
from kbsync.config.places import is_no_directory
from kbsync.config.problems import Conflict, Loc, format_path
from kbsync.config.target import is_in_the_clear, is_loopback
from kbsync.core.text import format_list
from kbsync.file_systems import real_path
from kbsync.targets.registry import TARGETS


def conflicts(config: Config, needs: Needs) -> Iterator[Conflict]:
    """Yield all conflicts in `config`. Accesses the disk if a setting contains a path."""
    # Compare real paths, because a symlink would hide that one is inside the other.
    folders = resolved([mirror.folder for mirror in config.mirrors])
    for index, mirror in enumerate(config.mirrors):
        yield from mirror_conflicts(mirror, ("mirrors", index))
        if needs.folders and is_no_directory(mirror.folder):
            message = f"{format_path(mirror.folder)} is a file; choose a folder"
            yield Conflict(("mirrors", index, "folder"), message)
    yield from name_conflicts(config.mirrors)
    yield from base_conflicts(config.mirrors, folders)
    yield from folder_conflicts(config, folders)
    yield from listener_conflicts(config)
    if config.notify is not None and config.notify.command is None and config.notify.url is None:
        yield Conflict(("notify",), "has no destination; set command, url or url_file")


def listener_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts in the listener's settings.

    The listener must not be open to other machines without a token. Callbacks require the listener and
    encryption.
    """
    http = config.http
    if http is not None and http.token is None and not is_loopback(http.host):
        message = (
            f"is required because other machines can reach {http.host}; set token or token_file, or listen "
            "on 127.0.0.1"
        )
        yield Conflict(("http", "token"), message, (("http", "listen"), ("http", "token_file")))
    for index, mirror in enumerate(config.mirrors):
        if mirror.target.callback_base is None:
            continue
        loc: Loc = ("mirrors", index, "target", "callback_base")
        if http is None:
            message = "needs a listener; add http: {listen: 127.0.0.1:9753}, or remove this key"
            yield Conflict(loc, message, (("http",),))
        # The secret in the URL's path is the only thing that authenticates a callback.
        if is_in_the_clear(mirror.target.callback_base):
            message = "does not use https, so the secret in its path would be sent unencrypted; use https://"
            yield Conflict(loc, message)


def mirror_conflicts(mirror: MirrorConfig, loc: Loc) -> Iterator[Conflict]:
    """Yield conflicts within the mirror at `loc`."""
    if mirror.settle_longest < mirror.settle:
        message = (
            f"{write_duration(mirror.settle_longest)} is shorter than settle; "
            f"allowed: at least {write_duration(mirror.settle)}"
        )
        yield Conflict((*loc, "settle_longest"), message, ((*loc, "settle"),))
    for index, rule in enumerate(mirror.documents):
        rule_loc = (*loc, "documents", index)
        for target, settings in rule.settings.items():
            for key, message in TARGETS[target].rule_conflicts(rule.match, settings):
                yield Conflict((*rule_loc, target, key), message, ((*rule_loc, "match"),))
    if mirror.prepare is not None and not mirror.target.keeps_index:
        allowed = format_list([name for name, block in TARGETS.items() if block.keeps_index], "or")
        message = f"{mirror.target.type} prepares documents itself; remove this key, or use {allowed}"
        yield Conflict((*loc, "prepare"), message, ((*loc, "target", "type"),))
    yield from mirror.target.conflicts(mirror, (*loc, "target"))


def name_conflicts(mirrors: Sequence[MirrorConfig]) -> Iterator[Conflict]:
    """Yield a conflict for each mirror with the same name as an earlier mirror."""
    first: dict[str, int] = {}
    for index, mirror in enumerate(mirrors):
        earlier = first.setdefault(mirror.name, index)
        if earlier != index:
            message = f"{mirror.name} is also the name of mirrors[{earlier}]; give each mirror its own name"
            yield Conflict(("mirrors", index, "name"), message, (("mirrors", earlier, "name"),))


def base_conflicts(mirrors: Sequence[MirrorConfig], folders: Sequence[Path]) -> Iterator[Conflict]:
    """Yield a conflict for each mirror that clashes with an earlier mirror of the same knowledge base.

    `folders`: the real paths of the mirrors' folders.
    """
    users: dict[tuple[str, ...], list[int]] = {}
    for index, mirror in enumerate(mirrors):
        users.setdefault(mirror.target.base_key(mirror.name), []).append(index)
    pairs = (pair for indices in users.values() for pair in itertools.combinations(indices, 2))
    for first, second in pairs:
        mirror, other = mirrors[first], mirrors[second]
        if mirror.name == other.name:
            continue  # `name_conflicts` reports it
        first_loc, second_loc = ("mirrors", first), ("mirrors", second)
        targets: tuple[Loc, ...] = ((*first_loc, "target"), (*second_loc, "target"))
        if not other.target.shares_base:
            message = f"already belongs to mirror {mirror.name}; use a different one for each mirror"
            yield Conflict((*second_loc, "target", "path"), message, targets)
        if overlap(folders[first], folders[second]):
            message = (
                f"{format_path(other.folder)} and {format_path(mirror.folder)} of mirror {mirror.name} "
                "overlap and share a knowledge base; use separate folders or separate knowledge bases"
            )
            yield Conflict((*second_loc, "folder"), message, (*targets, (*first_loc, "folder")))
        if other.target.shares_base and prefixes_clash(mirror.prefix, other.prefix):
            message = (
                f"{other.prefix!r} and {mirror.prefix!r} of mirror {mirror.name} clash in one knowledge "
                "base, because one begins with the other; choose prefixes such as guides/ and faq/"
            )
            yield Conflict((*second_loc, "prefix"), message, (*targets, (*first_loc, "prefix")))


def prefixes_clash(prefix: str, other: str) -> bool:
    """Return whether one prefix begins with the other.

    In that case, a document's name wouldn't identify its mirror.
    """
    return prefix.startswith(other) or other.startswith(prefix)


def overlap(path: Path, other: Path) -> bool:
    """Return whether both real paths are the same directory or one is inside the other."""
    return path.is_relative_to(other) or other.is_relative_to(path)


def resolved(folders: Sequence[Path]) -> list[Path]:
    """Return each folder's real path, or its absolute path if its file system doesn't respond in time."""
    paths, errors = list(folders), list[Exception]()

    def resolve(number: int) -> None:
        try:
            paths[number] = real_path(folders[number])
        except Exception as error:
            errors.append(error)  # raised in this thread, it would print a traceback

    # All at once: if a server is down, none of its mounts respond.
    threads = [threading.Thread(target=resolve, args=(number,), daemon=True) for number in range(len(paths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return paths


def folder_conflicts(config: Config, folders: Sequence[Path]) -> Iterator[Conflict]:
    """Yield a conflict for each state directory or knowledge base inside a mirrored folder, and vice versa.

    Every write there would wake kbsync. `folders`: the real paths of the mirrors' folders.
    """
    our_paths: list[tuple[Loc, Path, str]] = []
    if config.state_dir is not None:
        description = f"the state directory {format_path(config.state_dir)}"
        our_paths.append((("state_dir",), Path(os.path.realpath(config.state_dir)), description))
    for index, mirror in enumerate(config.mirrors):
        path = mirror.target.path
        if path is not None:
            description = f"the knowledge base {format_path(path)}"
            our_paths.append(
                (("mirrors", index, "target", "path"), Path(os.path.realpath(path)), description)
            )
    for index, (mirror, mirrored) in enumerate(zip(config.mirrors, folders, strict=True)):
        folder_loc: Loc = ("mirrors", index, "folder")
        folder_description = f"the mirrored folder {format_path(mirror.folder)}"
        for loc, our_path, description in our_paths:
            if our_path.is_relative_to(mirrored):
                message = f"{description} is inside {folder_description}; choose a path outside it"
                yield Conflict(loc, message, (folder_loc,))
            elif mirrored.is_relative_to(our_path):
                message = f"{folder_description} is inside {description}; choose a path outside it"
                yield Conflict(folder_loc, message, (loc,))
