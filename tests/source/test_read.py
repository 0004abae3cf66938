from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.model import Stamp
from kbsync.errors import ShortageError
from kbsync.source import read as reader
from kbsync.source.read import (
    IN_MEMORY,
    Sample,
    Spooled,
    StableDigest,
    UnreadableFile,
    Unstable,
    Vanished,
    copy_growing,
    copy_stable,
    digest,
)
from kbsync.source.roots import SHORTAGES
from kbsync.source.stat import stat_path
from tests.source.folders import Tree, learnt, listed, open_below, refuse

LARGE = os.urandom(IN_MEMORY) + b"and more"


@pytest.fixture
def root(root: Path) -> Path:
    (root / "docs").mkdir()
    return root


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open(tmp_path: Path) -> Any:
    yield
    assert open_below(tmp_path) == 0


def hexed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stamp(root: Path, path: str) -> Stamp:
    path_stat = stat_path(root, path).stamp
    assert path_stat
    return path_stat


def append(file: Path) -> None:
    with file.open("ab") as end:
        end.write(b"!")


def during(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object], *, number: int = 0) -> None:
    """Make `change` right after read `number`."""
    real, count = os.readv, iter(range(1_000_000))

    def read(fd: int, buffers: Any) -> int:
        count_read = real(fd, buffers)
        if next(count) == number:
            change()
        return count_read

    monkeypatch.setattr(os, "readv", read)


@pytest.mark.parametrize("content", [b"", b"x", LARGE, b"ab" * reader.PIECE])
def test_quiet_file_gives_its_digest(root: Path, content: bytes) -> None:
    (root / "docs/a.md").write_bytes(content)
    expected = stamp(root, "docs/a.md")
    assert digest(root, "docs/a.md", expected) == StableDigest(hexed(content), expected)


@pytest.mark.parametrize("seconds", [-11644473600, 253370764800])
def test_file_dated_out_of_range_is_read_and_stays_unchanged(root: Path, seconds: int) -> None:
    (root / "a.md").write_bytes(b"one")
    os.utime(root / "a.md", ns=(seconds * 10**9,) * 2)
    expected = stamp(root, "a.md")
    assert digest(root, "a.md", expected) == StableDigest(hexed(b"one"), expected)
    tree = Tree()
    assert [file.stamp for file in learnt(root, tree)[""].changed if file.name == "a.md"] == [expected]
    assert listed(root, tree) == {}


def test_file_with_an_unexpected_stamp_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a.md").write_bytes(b"one")
    expected = stamp(root, "a.md")
    (root / "a.md").write_bytes(b"another")
    refuse(monkeypatch, "readv", "anything", errno.EIO)
    assert digest(root, "a.md", expected) == Unstable("changed since it was checked")


@pytest.mark.parametrize(
    "change", ["append", "rewrite", "truncate", "replace", "touch back", "remove", "move"]
)
@pytest.mark.parametrize("content", [b"small", b"ab" * reader.PIECE])
def test_file_changing_during_the_read_is_not_accepted(
    root: Path, spool_dir: Path, monkeypatch: pytest.MonkeyPatch, change: str, content: bytes
) -> None:
    file = root / "docs/a.md"
    file.write_bytes(content)
    expected = stamp(root, "docs/a.md")

    def touch_back() -> None:
        file.write_bytes(content[::-1])
        os.utime(file, ns=(expected.mtime_ns, expected.mtime_ns))

    changes: dict[str, Callable[[], object]] = {
        "append": lambda: append(file),
        "rewrite": lambda: file.write_bytes(content[::-1]),
        "truncate": lambda: os.truncate(file, 2),
        "replace": lambda: (root / "new").replace(file),
        "touch back": touch_back,
        "remove": file.unlink,
        "move": lambda: file.rename(root / "moved"),
    }
    outcome = Vanished() if change in ("remove", "move") else Unstable("changed while it was read")
    for read in (
        lambda: digest(root, "docs/a.md", stamp(root, "docs/a.md")),
        lambda: copy_stable(root, "docs/a.md", spool_dir),
    ):
        if not file.exists():
            file.write_bytes(content)
        (root / "new").write_bytes(content)
        with monkeypatch.context() as patched:
            during(patched, changes[change])
            assert read() == outcome
    assert os.listdir(spool_dir) == []


@pytest.mark.parametrize("view", ["fstat", "stat"])
def test_open_file_and_path_must_both_be_unchanged(
    root: Path, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    # A local file system shows most changes in both; a network file system need not.
    file = root / "a.md"
    file.write_bytes(b"words")
    (root / "other.md").write_bytes(b"other")
    expected, other = stamp(root, "a.md"), (root / "other.md").stat()
    changed = False

    def change() -> None:
        nonlocal changed
        changed = True

    during(monkeypatch, change)
    real = getattr(os, view)
    monkeypatch.setattr(os, view, lambda *a, **options: other if changed else real(*a, **options))
    assert digest(root, "a.md", expected) == Unstable("changed while it was read")


def test_endlessly_growing_file_is_not_read_for_ever(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root / "a.md"
    file.write_bytes(b"ab" * reader.PIECE)
    real, total = os.readv, 0

    def grow(fd: int, buffers: Any) -> int:
        nonlocal total
        with file.open("ab") as end:
            end.write(b"x" * reader.PIECE)
        count_read = real(fd, buffers)
        total += count_read
        return count_read

    monkeypatch.setattr(os, "readv", grow)
    assert isinstance(digest(root, "a.md", stamp(root, "a.md")), Unstable)
    assert total == 2 * reader.PIECE + 1


@pytest.mark.parametrize("kind", ["fifo", "symlink", "folder", "socket"])
def test_replaced_file_is_not_read(root: Path, spool_dir: Path, kind: str) -> None:
    file = root / "docs/a.md"
    (root / "target.md").write_bytes(b"x")
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "symlink":
            file.symlink_to(root / "target.md")
        case "folder":
            file.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(file))
    expected = stamp(root, "docs/a.md")
    assert digest(root, "docs/a.md", expected) == Unstable("is no longer a regular file")
    assert copy_stable(root, "docs/a.md", spool_dir) == Unstable("is no longer a regular file")


@pytest.mark.parametrize("path", ["a.md", "nowhere/a.md", "file/a.md"])
def test_missing_file_is_reported_as_vanished(root: Path, spool_dir: Path, path: str) -> None:
    (root / "file").touch()
    assert digest(root, path, Stamp(1, 1, 1, 1)) == Vanished()
    assert copy_stable(root, path, spool_dir) == Vanished()
    below_no_root = copy_stable(root / "nowhere", path, spool_dir)
    assert isinstance(below_no_root, UnreadableFile) and str(root / "nowhere") in below_no_root.reason


@pytest.mark.parametrize(
    ("call", "number"),
    [
        *((call, number) for call in ("open", "readv") for number in (errno.EACCES, errno.EIO, errno.ESTALE)),
        *(("open", number) for number in (*SHORTAGES, errno.EWOULDBLOCK)),
    ],
)
def test_unreadable_file_has_a_reason_and_a_shortage_blames_none(
    root: Path, spool_dir: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    (root / "a.md").write_bytes(b"words")
    expected, words = stamp(root, "a.md"), os.strerror(number).lower()
    refuse(monkeypatch, call, "a.md" if call == "open" else "anything", number)
    for read in (lambda: digest(root, "a.md", expected), lambda: copy_stable(root, "a.md", spool_dir)):
        if number in SHORTAGES:
            with pytest.raises(ShortageError, match=words):
                read()
        elif number == errno.EWOULDBLOCK:  # another program holds a lease on it
            assert isinstance(read(), Unstable)
        else:
            outcome = read()
            assert isinstance(outcome, UnreadableFile)
            assert outcome.reason.startswith(f"cannot be read: {words}; ")


@pytest.mark.parametrize("content", [b"", b"small", b"x" * IN_MEMORY, LARGE, b"ab" * reader.PIECE])
def test_copied_bytes_are_the_hashed_ones_whatever_happens_to_the_file(
    root: Path, spool_dir: Path, content: bytes
) -> None:
    file = root / "docs/a.md"
    file.write_bytes(content)
    expected = stamp(root, "docs/a.md")
    with spooled(copy_stable(root, "docs/a.md", spool_dir, hexed(content))) as body:
        file.write_bytes(b"something else")
        assert (body.size, body.digest, body.stamp) == (len(content), hexed(content), expected)
        with body.open() as first, body.open() as second:
            assert first.read(3) == content[:3]
            assert second.read() == content
            assert first.read() == content[3:]


def spooled(outcome: object) -> Spooled:
    assert isinstance(outcome, Spooled), outcome
    return outcome


@pytest.mark.parametrize("has_nameless_files", [True, False])
def test_copy_has_no_name_and_is_closed_once(
    root: Path, spool_dir: Path, monkeypatch: pytest.MonkeyPatch, has_nameless_files: bool
) -> None:
    (root / "a.md").write_bytes(LARGE)
    if not has_nameless_files:
        refuse(monkeypatch, "open", spool_dir, errno.EOPNOTSUPP)
    body = spooled(copy_stable(root, "a.md", spool_dir))
    assert os.listdir(spool_dir) == []
    with body.open() as stream:
        assert stat.S_IMODE(os.fstat(stream.fileno()).st_mode) == 0o600
        body.close()
        assert stream.read() == LARGE
    body.close()


@pytest.mark.parametrize("content", [b"", b"small", LARGE])
def test_closed_copy_is_not_an_empty_one(root: Path, spool_dir: Path, content: bytes) -> None:
    (root / "a.md").write_bytes(content)
    body = spooled(copy_stable(root, "a.md", spool_dir))
    body.close()
    with pytest.raises(ValueError, match=r"copy .* has already been closed"):
        body.open()


def test_bytes_other_than_planned_are_not_sent(root: Path, spool_dir: Path) -> None:
    (root / "a.md").write_bytes(LARGE)
    outcome = copy_stable(root, "a.md", spool_dir, hexed(b"before"))
    assert isinstance(outcome, Unstable) and outcome.reason == "changed since it was hashed"


def test_short_write_to_the_spool_loses_nothing(
    root: Path, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.md").write_bytes(LARGE)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, piece: real(fd, piece[:100_000]))
    with spooled(copy_stable(root, "a.md", spool_dir)) as body, body.open() as stream:
        assert stream.read() == LARGE


class Writer:
    """Replaces the pause: each one lets the writer do its next step."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)
        self.pauses: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self.steps:
            self.steps.pop(0)()


@pytest.mark.parametrize(
    ("sample", "content", "pauses"),
    [
        (None, b"one\n", [0.25]),  # it doesn't change between two reads
        (None, b"one\ntwo\n", [0.25]),  # it only grows
        (Sample(2, hashlib.sha256(b"on").hexdigest()), b"one\n", []),  # it has grown since an earlier sample
    ],
)
def test_briefly_stable_or_only_growing_file_is_accepted(
    root: Path, spool_dir: Path, sample: Sample | None, content: bytes, pauses: list[float]
) -> None:
    file = root / "a.log"
    file.write_bytes(b"one\n")
    pause = Writer(lambda: file.write_bytes(content))
    with spooled(copy_growing(root, "a.log", spool_dir, sample, pause)) as body:
        assert body.open().read() == content
        assert (body.digest, body.stamp) == (hexed(content), stamp(root, "a.log"))
    assert pause.pauses == pauses


@pytest.mark.parametrize(
    "sample", [None, Sample(100, hexed(b"x" * 100)), Sample(0, hexed(b""))], ids=["none", "longer", "empty"]
)
def test_constantly_rewritten_file_is_not_mistaken_for_a_growing_one(
    root: Path, spool_dir: Path, sample: Sample | None
) -> None:
    file = root / "a.md"
    file.write_bytes(b"one")
    versions = (b"two!", b"three", b"four", b"five")
    steps = [lambda text=text: file.write_bytes(text) for text in versions]
    outcome = copy_growing(root, "a.md", spool_dir, sample, pause=Writer(*steps))
    assert isinstance(outcome, Unstable) and outcome.reason == "still being written"
    assert outcome.sample and outcome.sample.digest in {hexed(text) for text in versions}


def test_file_changing_in_each_read_or_vanishing_is_not_accepted(
    root: Path, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / "a.md"
    file.write_bytes(b"words")
    with monkeypatch.context() as patched:
        for number in range(12):
            during(patched, lambda: append(file), number=number)
        assert copy_growing(root, "a.md", spool_dir, pause=Writer()) == Unstable("still being written")
    assert copy_growing(root, "a.md", spool_dir, pause=Writer(file.unlink)) == Vanished()
