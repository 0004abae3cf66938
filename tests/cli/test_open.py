"""`kbsync open`: one of the last search's hits, which are remembered where nobody else can lay some."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kbsync.cli.commands import open as opening
from kbsync.cli.commands.open import open_or_print
from tests.cli.place import Place


def test_a_search_on_a_terminal_numbers_its_hits_and_open_finds_them(mirrored: Place, tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "NO_COLOR": "1"}
    ran = mirrored.run("search", "password", "office", "--folder", "docs", tty=True, env=env)
    assert ran.out.startswith(" 1  ")
    best = mirrored.run("search", "password", "office", "--folder", "docs", "--files").out.splitlines()
    assert len(best) > 1
    for number, path in enumerate(best, 1):
        assert mirrored.run("open", str(number), env=env).out == f"{path}\n"
    beyond = mirrored.run("open", str(len(best) + 1), env=env)
    assert beyond.code == 2
    assert f"has {len(best)} hits" in beyond.err
    [kept] = (tmp_path / "kbsync").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert b"installer" not in kept.read_bytes()


@pytest.mark.parametrize("more", [("--files",), ("--files", "-0"), ("--json",)])
@pytest.mark.parametrize("piped", [False, True])
def test_open_takes_a_hit_of_the_last_search_however_that_was_printed(
    mirrored: Place, tmp_path: Path, more: tuple[str, ...], piped: bool
) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert mirrored.run("search", "password", "--folder", "docs", tty=True, env=env).code == 0
    assert mirrored.run("open", env=env).out == f"{mirrored.docs}/install.md\n"
    last = mirrored.run("search", "office", "--folder", "docs", *more, tty=True, piped=piped, env=env)
    assert "hours.txt" in last.out
    assert mirrored.run("open", env=env).out == f"{mirrored.docs}/guides/hours.txt\n"


def test_what_a_program_searches_for_leaves_no_trace(mirrored: Place, tmp_path: Path) -> None:
    before = mirrored.files()
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    for more in ((), ("--json",), ("--files",)):
        assert mirrored.run("search", "password", "--folder", "docs", *more, env=env).code == 0
    assert list(tmp_path.iterdir()) == []
    assert mirrored.run("search", "password", "--folder", "docs", tty=True).code == 0
    assert mirrored.files() == before


def test_a_file_that_has_gone_is_told(place: Place) -> None:
    env = {"XDG_RUNTIME_DIR": str(place.root)}
    gone = [place.docs / "gone.md", Path(os.fsdecode(b"/srv/caf\xe9\n.md"))]
    assert opening.remember(gone, "kbsync search QUERY", env)
    assert opening.recall(env) == opening.Remembered("kbsync search QUERY", gone)
    ran = place.run("open", env=env)
    assert ran.code == 2
    assert "gone.md no longer exists; search again" in ran.err


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /dev/shm, in which everybody may write."""
    memory = tmp_path / "memory"
    memory.mkdir()
    memory.chmod(0o1777)
    monkeypatch.setattr(opening, "MEMORY", memory)
    return memory


def test_without_a_runtime_directory_hits_are_remembered_in_a_place_of_ones_own(
    mirrored: Place, memory: Path
) -> None:
    ran = mirrored.run("open")
    assert (ran.code, ran.out) == (2, "")
    assert "no search is remembered: none was made on a terminal; " in ran.err
    words = ("search", "password", "--folder", "docs")
    assert mirrored.run(*words, tty=True, env={"NO_COLOR": "1"}).out.startswith(" 1  ")
    assert mirrored.run("open").out == f"{mirrored.docs / 'install.md'}\n"
    [folder] = memory.iterdir()
    [kept] = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)


def foreign(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, -1)


def linked(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def shared(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)


OF_OTHERS = [
    pytest.param(foreign, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives away")),
    linked,
    shared,
]


@pytest.mark.parametrize("lay", OF_OTHERS)
def test_what_others_laid_there_is_not_believed_and_that_is_told(
    mirrored: Place, memory: Path, lay: Callable[[Path], None]
) -> None:
    folder = memory / f"kbsync-{os.geteuid()}"
    lay(folder)
    (folder / "last-search").write_bytes(b"/etc/passwd")
    assert mirrored.run("search", "password", "--folder", "docs", tty=True).code == 0
    ran = mirrored.run("open", "--print")
    assert (ran.code, ran.out) == (2, "")
    assert "neither $XDG_RUNTIME_DIR nor /dev/shm has a place that is yours alone" in ran.err
    assert (folder / "last-search").read_bytes() == b"/etc/passwd"


class Tty:
    def isatty(self) -> bool:
        return True


def test_a_display_opens_an_editor_edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("xdg-open", "my-editor"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >{tmp_path}/$$.new\n'
            f"mv {tmp_path}/$$.new {tmp_path}/said\n"
        )
        (tmp_path / name).chmod(0o700)
    monkeypatch.setattr("sys.stdin", Tty())
    monkeypatch.setattr("kbsync.cli.commands.open.sys.stdout", Tty())
    open_or_print(Path("/srv/a b"), {"VISUAL": f"{tmp_path}/my-editor -f", "PATH": "/usr/bin:/bin"})
    assert (tmp_path / "said").read_text() == "my-editor\n-f\n/srv/a b\n"
    (tmp_path / "said").unlink()
    open_or_print(Path("/srv/a b"), {"DISPLAY": ":0", "PATH": f"{tmp_path}:/usr/bin:/bin"})
    while not (tmp_path / "said").exists():
        os.sched_yield()
    assert (tmp_path / "said").read_text() == "xdg-open\n/srv/a b\n"
