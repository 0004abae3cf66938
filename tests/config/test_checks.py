from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kbsync import file_systems
from kbsync.config import checks
from kbsync.config.checks import base_conflicts, overlap, prefixes_clash
from kbsync.config.model import MirrorConfig

from .reading import problem_lines, problems, read


def test_folder_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "kb").touch()
    text = "mirrors:\n- name: a\n  folder: file\n- {name: b, folder: /srv/b, target: {path: kb}}\n"
    assert problem_lines(tmp_path, text) == [
        f"3 mirrors[0].folder: {tmp_path}/file is a file; choose a folder",
        f"4 mirrors[1].target.path: {tmp_path}/kb is a file; choose a folder",
    ]


TWO_IN_ONE_BASE = """
mirrors:
- {name: a, folder: notes, target: {path: /srv/kb}}
- {name: b, folder: docs, target: {path: /srv/kb}}
"""


def test_config_is_read_while_folders_on_a_dead_mount_do_not_respond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount_is_back, responses = threading.Event(), list[bool]()
    real_path = os.path.realpath

    def hang(path: Path) -> str:
        if path in (tmp_path / "notes", tmp_path / "docs"):
            responses.append(mount_is_back.wait(10.0))
        return real_path(path)

    monkeypatch.setattr(os.path, "realpath", hang)
    monkeypatch.setattr(file_systems, "MAX_RESPONSE_SECONDS", 0.01)
    [problem] = problem_lines(tmp_path, TWO_IN_ONE_BASE)
    assert ("already belongs to mirror a" in problem, responses) == (True, [])
    mount_is_back.set()


def test_lack_of_threads_is_raised_and_not_printed_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> Path:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(checks, "real_path", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        checks.resolved([Path("docs")])


def test_symlinks_of_all_folders_are_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    both, real_path = threading.Barrier(2), os.path.realpath

    def wait_for_both(path: Path) -> str:
        both.wait(5.0)
        return real_path(path)

    monkeypatch.setattr(os.path, "realpath", wait_for_both)
    assert checks.resolved([Path("/srv/.."), Path("/")]) == [Path("/"), Path("/")]


def test_nested_folders_may_use_different_knowledge_bases(tmp_path: Path) -> None:
    read(
        tmp_path,
        "mirrors: [{name: a, folder: /srv/a}, {name: b, folder: /srv/a/b}, {name: c, folder: /srv/a}]",
    )


def test_local_base_shared_by_two_mirrors_is_reported(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("kb")
    text = """\
        mirrors:
        - {name: a, folder: /srv/a, target: {path: kb}}
        - {name: b, folder: /srv/b, target: {path: link}}
        """
    assert problem_lines(tmp_path, text) == [
        "3 mirrors[1].target.path: already belongs to mirror a; use a different one for each mirror"
    ]


@pytest.mark.parametrize(
    ("first", "second"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "link"), (".", "a")]
)
def test_overlapping_folders_into_one_base_are_reported(tmp_path: Path, first: str, second: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    text = f"""\
        mirrors:
        - {{name: a, folder: {first}, target: {{path: /srv/kb}}}}
        - {{name: b, folder: {second}, target: {{path: /srv/kb}}}}
        """
    errors = problems(tmp_path, text)
    assert [(problem.line, problem.key) for problem in errors] == [
        (3, "mirrors[1].target.path"),
        (3, "mirrors[1].folder"),
    ]
    assert "of mirror a overlap and share a knowledge base" in errors[1].message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("state_dir: docs\nmirrors: [{name: a, folder: docs}]", "state_dir"),
        ("state_dir: docs/state\nmirrors: [{name: a, folder: docs}]", "state_dir"),
        ("state_dir: link/state\nmirrors: [{name: a, folder: docs}]", "state_dir"),
        ("state_dir: .\nmirrors: [{name: a, folder: docs}]", "mirrors[0].folder"),
        ("mirrors: [{name: a, folder: docs, target: {path: docs/kb}}]", "mirrors[0].target.path"),
        ("mirrors: [{name: a, folder: kb/docs, target: {path: kb}}]", "mirrors[0].folder"),
        (
            "mirrors: [{name: a, folder: docs}, {name: b, folder: x, target: {path: docs/kb}}]",
            "mirrors[1].target.path",
        ),
    ],
)
def test_our_files_must_be_outside_mirrored_folders(tmp_path: Path, text: str, key: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "link").symlink_to("docs")
    [problem] = problems(tmp_path, text)
    assert problem.key == key
    assert " is inside " in problem.message
    assert problem.message.endswith("; choose a path outside it")


def test_local_base_on_a_network_file_system_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbsync.targets.local.config.network_file_system", lambda path: "nfs4")
    [problem] = problem_lines(tmp_path, "mirrors: [{name: a, folder: /srv/a, target: {path: /mnt/kb}}]")
    assert problem.startswith("1 mirrors[0].target.path: is on a network file system (nfs4)")


@dataclass(frozen=True)
class SharedBase:
    """Settings of a target whose knowledge base several mirrors may share."""

    base: str
    shares_base: bool = True

    def base_key(self, mirror: str) -> tuple[str, ...]:
        return ("account", self.base)


def mirrors(*rows: tuple[str, str, str]) -> list[MirrorConfig]:
    """Return mirrors from folder, prefix and base."""
    plain = [MirrorConfig(name=f"m{n}", folder=Path(row[0]), prefix=row[1]) for n, row in enumerate(rows)]
    targets: list[Any] = [SharedBase(row[2]) for row in rows]
    return [replace(mirror, target=target) for mirror, target in zip(plain, targets, strict=True)]


def test_prefixes_that_begin_each_other_in_one_base_are_reported() -> None:
    rows = mirrors(("/a", "guides/", "1"), ("/b", "guides/faq/", "1"), ("/c", "faq/", "1"), ("/d", "", "2"))
    [finding] = base_conflicts(rows, [row.folder for row in rows])
    assert finding.loc == ("mirrors", 1, "prefix")
    assert "'guides/faq/' and 'guides/' of mirror m0 clash in one knowledge base" in finding.message


def test_overlap_is_decided_by_whole_folder_names_and_the_empty_prefix_overlaps_all() -> None:
    assert not overlap(Path("/srv/docs"), Path("/srv/docs-old")) and overlap(Path("/"), Path("/srv"))
    assert prefixes_clash("", "a/") and prefixes_clash("", "") and not prefixes_clash("a/", "b/")


def test_overlapping_folders_into_one_shared_base_are_reported() -> None:
    rows = mirrors(("/a", "x/", "1"), ("/a/b", "y/", "1"), ("/a/b", "z/", "2"))
    [finding] = base_conflicts(rows, [row.folder for row in rows])
    assert finding.loc == ("mirrors", 1, "folder")
