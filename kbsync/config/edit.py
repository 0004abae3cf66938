"""Adds mirrors to a config file and removes them, keeping every other byte unchanged.

The parser's events give each mirror's position in the text. The result is parsed again, and an edit that
would change any other value is refused. Only one process at a time edits the file, replacing it atomically.
"""

from __future__ import annotations

import bisect
import codecs
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from kbsync.config.model import Config, Needs
from kbsync.config.problems import ConfigError
from kbsync.config.reader import load_content, read_content
from kbsync.config.template import as_yaml
from kbsync.config.yaml import UnreadableConfig, Value, read_yaml
from kbsync.dataclass import dataclass
from kbsync.errors import LockedError, UsageError, system_reason
from kbsync.file_systems import mount_containing
from kbsync.permissions import hand_over, make_private_folder
from kbsync.signals import ending_cleanly

PATIENCE = 10.0
"""Seconds to wait for another process that is editing the same config."""

_NO_MIRRORS = re.compile(r"^mirrors[ \t]*:[ \t]*(?:\[[ \t]*\])?[ \t]*(#[^\r\n]*)?(?:\r?\n|\Z)", re.MULTILINE)
_COMMA = re.compile(r"[ \t]*,")
_REST = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?=\r?\n|\Z)")
"""Matches the rest of a line that contains no further values."""
_EMPTY_LINE = re.compile(r"\r?\n(?:[ \t]*|([ ]*)#[^\r\n]*)(?=\r?\n|\Z)")
"""Matches a blank line or a comment, including the line break before it."""
_BLANK = re.compile(r"(?:[ \t]*\r?\n)*")


class NotEditable(UsageError):
    """Raised if a config file can't be edited safely.

    `str()` gives the reason, in a sentence that begins with the file's name.
    """

    def __init__(self, why: str = "is written in a way that kbsync cannot edit safely") -> None:
        super().__init__(why)


# -- the text ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Item:
    """A mirror in the text, without the comments around it.

    `dash`: the position of its `-`, or None inside `[ ]`.
    """

    start: int
    end: int
    dash: int | None


def with_mirror(text: str, settings: Mapping[str, Value]) -> str:
    """Return `text` with one more mirror at the end of the list. Raises `NotEditable`.

    `settings`: strings, or lists and mappings of strings. In a string, `${NAME}` is a reference.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    values = {key: as_yaml(value) for key, value in settings.items()}
    before = read_yaml(text).value or {}
    if isinstance(before, dict) and not before.get("mirrors"):
        lines = f"{newline}    ".join(f"{key}: {value}" for key, value in values.items())
        item = f"  - {lines}{newline}"
        if (empty := _NO_MIRRORS.search(text)) is not None:
            comment = f"  {empty[1]}" if empty[1] else ""
            edited = f"{text[: empty.start()]}mirrors:{comment}{newline}{item}{text[empty.end() :]}"
        else:
            line_end = "" if text.endswith(newline) or not text else newline
            edited = f"{text}{line_end}mirrors:{newline}{item}"
    elif (last := _items(text)[-1]).dash is not None:
        indent, gap, end = _indent(text, last.dash), text[last.dash + 1 : last.start], _block_end(text, last)
        # After a dash with a tab or a line end, the columns of the keys are unknown.
        gap = gap if gap.strip(" ") == "" else " "
        lines = f"{newline}{indent} {gap}".join(f"{key}: {value}" for key, value in values.items())
        edited = f"{text[:end]}{newline}{indent}-{gap}{lines}{text[end:]}"
    else:
        is_json = re.match(r'\{\s*"', text[last.start :]) is not None
        pairs = (f'"{key}": {value}' if is_json else f"{key}: {value}" for key, value in values.items())
        edited = _with_flow_item(text, last, f"{{{', '.join(pairs)}}}", newline)
    return _checked(before, edited, lambda mirrors: [*mirrors, dict(settings)])


def without_mirror(text: str, index: int) -> str:
    """Return `text` without `mirrors[index]` and the comments in it. Raises `NotEditable`."""
    items = _items(text)
    item = items[index]
    if item.dash is not None:
        start, end = item.dash - len(_indent(text, item.dash)), _block_end(text, item)
        # Remove the line end too, except at the end of the file.
        end += len(text[end : end + 2]) if text.startswith("\r\n", end) else len(text[end : end + 1])
        if index < len(items) - 1:
            # The blank lines above the mirror now separate its neighbors.
            end = _after(_BLANK, text, end)
        edited = text[:start] + text[end:]
    else:
        edited = _without_flow_item(text, items, index)
    before = read_yaml(text).value
    return _checked(before, edited, lambda mirrors: mirrors[:index] + mirrors[index + 1 :])


def lines_of(text: str, index: int) -> tuple[int, int]:
    """Return the numbers of the first and last lines of `mirrors[index]`, starting from 1. Raises
    `NotEditable`.
    """
    item = _items(text)[index]
    return text.count("\n", 0, item.start) + 1, text.count("\n", 0, item.end - 1) + 1


def _items(text: str) -> list[_Item]:
    """Return the mirrors, in order."""
    events = yaml.parse(text, yaml.SafeLoader)
    root = next(event for event in events if isinstance(event, yaml.NodeEvent))
    mirrors: yaml.Event | None = None
    while isinstance(root, yaml.MappingStartEvent) and not isinstance(
        key := next(events), yaml.MappingEndEvent
    ):
        _end_of(key, events)
        value = next(events)
        if isinstance(key, yaml.ScalarEvent) and key.value == "mirrors":
            mirrors = value
            break
        _end_of(value, events)
    if not isinstance(mirrors, yaml.SequenceStartEvent):
        # The list is an alias, or merged from another block.
        raise NotEditable
    # An item's own dash is the last one before the item.
    dashes = [_span(token)[0] for token in yaml.scan(text) if isinstance(token, yaml.BlockEntryToken)]
    items = []
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        start, _ = _span(event)
        dash = None if mirrors.flow_style else dashes[bisect.bisect_left(dashes, start) - 1]
        items.append(_Item(start, _end_of(event, events), dash))
    return items


def _end_of(event: yaml.Event, events: Iterator[yaml.Event]) -> int:
    """Return the position after the last character of the node that begins with `event`.

    This consumes the node's events.
    """
    _, end = _span(event)
    depth = int(isinstance(event, yaml.CollectionStartEvent))
    while depth:
        event = next(events)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        first, last = _span(event)
        # A block's end event has no width, and its position is where the next value begins, after all
        # comments.
        if last > first:
            end = last
    return end


def _span(part: yaml.Event | yaml.Token) -> tuple[int, int]:
    assert part.start_mark is not None
    assert part.end_mark is not None
    return part.start_mark.index, part.end_mark.index


def _after(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Return the position after the text that matches `pattern` at `start`. Raises `NotEditable` if there is
    none.
    """
    if (match := pattern.match(text, start)) is None:
        raise NotEditable
    return match.end()


def _indent(text: str, position: int) -> str:
    """Return the text before `position` on the same line. Raises `NotEditable` if that isn't just spaces."""
    before = text[text.rfind("\n", 0, position) + 1 : position]
    if before.strip(" "):
        raise NotEditable
    return before


def _block_end(text: str, item: _Item) -> int:
    """Return the end of the item's last line.

    Comments that are indented deeper than the item's dash are part of it.
    """
    assert item.dash is not None
    # The end of a block scalar is after its line end.
    value_end = len(text[: item.end].rstrip("\r\n"))
    end = line_start = _after(_REST, text, value_end)
    column = len(_indent(text, item.dash))
    while line := _EMPTY_LINE.match(text, line_start):
        line_start = line.end()
        if line[1] is not None:
            if len(line[1]) <= column:
                break
            end = line_start
    return end


def _with_flow_item(text: str, last: _Item, item: str, newline: str) -> str:
    comma = _COMMA.match(text, last.end)
    after = comma.end() if comma else last.end
    before = text[text.rfind("\n", 0, last.start) + 1 : last.start]
    rest = _REST.match(text, after)
    if rest and not before.strip():
        # The last mirror is on separate lines, perhaps with a comment at their end.
        line_end = rest.end()
        trailing = "," if comma else ""
        return f"{text[: last.end]},{text[after:line_end]}{newline}{before}{item}{trailing}{text[line_end:]}"
    return f"{text[: last.end]}, {item}{text[after:]}"


def _without_flow_item(text: str, items: list[_Item], index: int) -> str:
    item = items[index]
    start, end = item.start, item.end
    comma = _COMMA.match(text, end)
    if comma:
        end = comma.end()
    before = text[text.rfind("\n", 0, start) + 1 : start]
    rest = _REST.match(text, end)
    if rest and not before.strip():
        start, end = start - len(before), rest.end() + (2 if text.startswith("\r\n", rest.end()) else 1)
    else:
        end += len(text[end:]) - len(text[end:].lstrip(" "))
    head = text[:start]
    if not comma and index:
        # Remove the comma before the last mirror too, because JSON allows none there.
        previous = items[index - 1].end
        head = text[:previous] + text[_after(_COMMA, text, previous) : start].rstrip(" ")
    return head + text[end:]


def _checked(before: Value, edited: str, change: Callable[[list[Value]], list[Value]]) -> str:
    """Return `edited` if it differs from the config `before` only in the changed mirrors.

    Otherwise, raise `NotEditable`.
    """
    try:
        after = read_yaml(edited).value
    except UnreadableConfig:
        raise NotEditable from None
    assert isinstance(before, dict)
    mirrors = before.get("mirrors") or []
    if not isinstance(mirrors, list) or after != {**before, "mirrors": change(mirrors)}:
        raise NotEditable
    return edited


# -- the file ----------------------------------------------------------------------------------------------


def edit_config(
    path: Path, environ: Mapping[str, str], change: Callable[[Config, str], str], *, writes: bool = True
) -> Config:
    """Replace the text of the config at `path`, and return the new config.

    `change` gets the config and its text. It is called again if another process changes the file (or a
    symlink at `path`) in the meantime. Without `writes`, this only checks whether the change is possible.
    Raises `NotEditable`, `LockedError`, or `UsageError` if the config is invalid before or after the change.
    After an error, the file is unchanged.
    """
    file = Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps `..`)
    # A missing or unreadable file is reported before anything else.
    read_content(file)
    if not file.is_file():
        # Replacing it would destroy a device such as /dev/null.
        raise NotEditable("cannot be replaced, because it is not a regular file")
    try:
        while True:
            with _held(file) as real:
                content = read_content(file)
                needs = Needs(secrets=False, bases=False, mirrors=False, folders=False)
                config = load_content(file, content, environ, needs)
                bom = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
                edited = bom + change(config, content.decode("utf-8-sig")).encode()
                if edited == content:
                    return config
                new = _load_edited(file, edited, environ)
                if not os.access(real.parent, os.W_OK):
                    raise NotEditable("cannot be replaced, because its directory is not writable")
                mount = mount_containing(real)
                if mount is not None and mount.point == str(real):  # as in a container
                    raise NotEditable("cannot be replaced, because it is a mount point")
                with _written(real, edited, like=real) as fresh:
                    if not writes:
                        return new
                    # Another process may have edited the file, or switched a symlink to another file.
                    if read_content(file) == content and _real(file) == real:
                        fresh.replace(real)
                        _sync_folder(real.parent)
                        return new
    except OSError as error:
        raise NotEditable(f"cannot be replaced ({system_reason(error)})") from None


def _load_edited(file: Path, edited: bytes, environ: Mapping[str, str]) -> Config:
    try:
        return load_content(file, edited, environ, Needs(secrets=False, bases=False, folders=False))
    except ConfigError as error:
        # Leave out the line numbers, because they refer to a text that the user doesn't see.
        raise UsageError(
            "; ".join(f"{problem.key}: {problem.message}" for problem in error.problems)
        ) from None


def create_config(path: Path, environ: Mapping[str, str], text: str) -> Config:
    """Write a new config to `path`, and return it.

    Raises `UsageError` for an invalid config, without writing anything. Raises FileExistsError if something
    exists at `path`, or another OSError.
    """
    file = Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps `..`)
    make_private_folder(file.parent)
    with _held(file) as real:
        if os.path.lexists(file):
            raise FileExistsError(file)
        config = load_content(file, text.encode(), environ)
        with _written(real, text.encode()) as fresh:
            fresh.replace(real)
            _sync_folder(real.parent)
    return config


@contextmanager
def _held(file: Path) -> Iterator[Path]:
    """Yield the real path of `file`, while keeping other processes from editing a config in its directory.

    Raises `LockedError` if another process takes too long to edit.
    """
    real = _real(file)
    # Lock the directory, because the file itself is replaced. This way, no lock file is needed.
    folder = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockedError(f"another kbsync is editing {file}; try again") from None
                time.sleep(0.02)
            except OSError:
                # NFS can't lock a directory. An edit still notices if the file has changed in the meantime.
                break
        yield real
    finally:
        os.close(folder)


def _real(file: Path) -> Path:
    return Path(os.path.realpath(file))


@contextmanager
def _written(real: Path, content: bytes, like: Path | None = None) -> Iterator[Path]:
    """Yield a new file next to `real`, with the mode, owner and attributes of `like`.

    The file is removed unless it replaces `real`.
    """
    # Always use the same name, so that a file left by a killed process is overwritten.
    fresh = real.with_name(f".{real.name}.new")
    fresh.unlink(missing_ok=True)
    with ending_cleanly(), ExitStack() as undo:
        # The user may add a key to a new config later.
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        undo.callback(fresh.unlink, missing_ok=True)
        with open(descriptor, "wb") as file:
            if like is None:
                hand_over(descriptor, real.parent)
            else:
                before, now = like.stat(), os.fstat(descriptor)
                if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                # By descriptor, because the directory's owner could replace the name by a symlink.
                shutil.copystat(like, descriptor)  # type: ignore[arg-type]
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield fresh


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
