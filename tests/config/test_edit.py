"""Tests that adding and removing mirrors in a config leaves every other byte unchanged."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kbsync.config.edit import NotEditable, create_config, edit_config, with_mirror, without_mirror
from kbsync.config.model import Config
from kbsync.config.reader import load
from kbsync.config.yaml import Value, read_yaml
from kbsync.errors import UsageError
from tests.share import long

NEW: dict[str, Value] = {"name": "new", "folder": "/srv/n€w $${x}"}

KEPT = [
    pytest.param(
        "mirrors:\n  - name: a\n    folder: /a\n",
        "mirrors:\n  - name: a\n    folder: /a\n  - name: NAME\n    folder: FOLDER\n",
        id="block",
    ),
    pytest.param(
        "mirrors:\n- name: a\n  folder: /a\nstate_dir: /s # where\n",
        "mirrors:\n- name: a\n  folder: /a\n- name: NAME\n  folder: FOLDER\nstate_dir: /s # where\n",
        id="dash at the margin, keys behind",
    ),
    pytest.param(
        "mirrors:\n    -   name: a\n        folder: /a   # here\n\n# the end\n",
        "mirrors:\n    -   name: a\n        folder: /a   # here\n"
        "    -   name: NAME\n        folder: FOLDER\n\n# the end\n",
        id="indentation 4 and a comment at the end",
    ),
    pytest.param(
        "mirrors:\n  - name: a\n    folder: /a\n    # include: [x]\n\n    # exclude: [y]\n  # others\n",
        "mirrors:\n  - name: a\n    folder: /a\n    # include: [x]\n\n    # exclude: [y]\n"
        "  - name: NAME\n    folder: FOLDER\n  # others\n",
        id="comments in the last mirror",
    ),
    pytest.param(
        "mirrors:\n  - name: a\n    folder: /a",
        "mirrors:\n  - name: a\n    folder: /a\n  - name: NAME\n    folder: FOLDER",
        id="no line end at the end",
    ),
    pytest.param(
        "mirrors:\r\n  - name: a\r\n    folder: /a\r\n# end\r\n",
        "mirrors:\r\n  - name: a\r\n    folder: /a\r\n  - name: NAME\r\n    folder: FOLDER\r\n# end\r\n",
        id="CRLF",
    ),
    pytest.param(
        "# Ordner für 知识\nmirrors:\n  - name: a\n    folder: /ä # 文件\nhttp: {listen: '127.0.0.1:1'}\n",
        "# Ordner für 知识\nmirrors:\n  - name: a\n    folder: /ä # 文件\n  - name: NAME\n"
        "    folder: FOLDER\n"
        "http: {listen: '127.0.0.1:1'}\n",
        id="other alphabets",
    ),
    pytest.param(
        "mirrors:\n  - # a comment - with a dash\n    name: a\n    exclude:\n"
        "      - x\n      - y\n    folder: /a\n",
        "mirrors:\n  - # a comment - with a dash\n    name: a\n    exclude:\n"
        "      - x\n      - y\n    folder: /a\n"
        "  - name: NAME\n    folder: FOLDER\n",
        id="a comment behind the dash, and a list in the mirror",
    ),
    pytest.param(
        "mirrors:\n  - {name: a, folder: /a} # one\n",
        "mirrors:\n  - {name: a, folder: /a} # one\n  - name: NAME\n    folder: FOLDER\n",
        id="items in braces",
    ),
    pytest.param(
        "---\nx: &x {settle: 1s}\nmirrors:\n  - <<: *x\n    name: a\n    folder: /a\n...\n",
        "---\nx: &x {settle: 1s}\nmirrors:\n  - <<: *x\n    name: a\n    folder: /a\n  - name: NAME\n"
        "    folder: FOLDER\n...\n",
        id="anchor, merge and marks of the document",
    ),
    pytest.param(
        "mirrors:\n  - &a\n    name: a\n    folder: >-\n      /a\n\nstate_dir: /s\n",
        "mirrors:\n  - &a\n    name: a\n    folder: >-\n      /a\n"
        "  - name: NAME\n    folder: FOLDER\n\nstate_dir: /s\n",
        id="anchored mirror that ends with a block of text",
    ),
    pytest.param(
        '"mirrors": &all\n  - name: a\n    folder: "/a"\n',
        '"mirrors": &all\n  - name: a\n    folder: "/a"\n  - name: NAME\n    folder: FOLDER\n',
        id="anchored list under a quoted key",
    ),
    pytest.param(
        "mirrors: [{name: a, folder: /a}] # all\n",
        "mirrors: [{name: a, folder: /a}, {name: NAME, folder: FOLDER}] # all\n",
        id="flow",
    ),
    pytest.param(
        "mirrors: [\n  {name: a, folder: /a}, # one\n]\n",
        "mirrors: [\n  {name: a, folder: /a}, # one\n  {name: NAME, folder: FOLDER},\n]\n",
        id="flow, lines, comma and comment at the end",
    ),
    pytest.param(
        "mirrors: [\n  {name: a, folder: /a} # one\n  # two\n]\n",
        "mirrors: [\n  {name: a, folder: /a}, # one\n  {name: NAME, folder: FOLDER}\n  # two\n]\n",
        id="flow, lines and comments",
    ),
    pytest.param(
        '{"mirrors": [{"name": "a", "folder": "/a"}]}',
        '{"mirrors": [{"name": "a", "folder": "/a"}, {"name": NAME, "folder": FOLDER}]}',
        id="JSON",
    ),
    pytest.param(
        '{\n  "mirrors": [\n    {\n      "name": "a",\n      "folder": "/a"\n    }\n  ]\n}\n',
        '{\n  "mirrors": [\n    {\n      "name": "a",\n      "folder": "/a"\n    },\n'
        '    {"name": NAME, "folder": FOLDER}\n  ]\n}\n',
        id="JSON in lines",
    ),
]


@pytest.mark.parametrize(("text", "expected"), KEPT)
def test_adding_and_removing_a_mirror_keeps_every_other_byte(text: str, expected: str) -> None:
    added = with_mirror(text, NEW)
    assert added == expected.replace("NAME", '"new"').replace("FOLDER", '"/srv/n€w $${x}"')
    back = without_mirror(added, 1)
    assert back in (text, f"{text}\n")


REMOVED = [
    pytest.param(
        "mirrors:\n  # About a.\n  - name: a\n    folder: /a\n    # off: x\n\n"
        "  # About b.\n  - name: b\n    folder: /b\n",
        0,
        "mirrors:\n  # About a.\n  # About b.\n  - name: b\n    folder: /b\n",
        id="the first: comments above stay, those in it go",
    ),
    pytest.param(
        "mirrors:\n  - name: a\n    folder: /a\n\n  - name: b\n    folder: /b\n"
        "\n  - name: c\n    folder: /c\n",
        1,
        "mirrors:\n  - name: a\n    folder: /a\n\n  - name: c\n    folder: /c\n",
        id="the middle one: one blank line stays",
    ),
    pytest.param(
        "mirrors:\r\n- name: a\r\n  folder: /a\r\n- name: b\r\n  folder: /b\r\nstate_dir: /s\r\n",
        1,
        "mirrors:\r\n- name: a\r\n  folder: /a\r\nstate_dir: /s\r\n",
        id="the last, CRLF",
    ),
    pytest.param(
        "mirrors: [{name: a, folder: /a}, {name: b, folder: /b}, {name: c, folder: /c}]\n",
        1,
        "mirrors: [{name: a, folder: /a}, {name: c, folder: /c}]\n",
        id="flow, middle",
    ),
    pytest.param(
        "mirrors: [{name: a, folder: /a}, {name: b, folder: /b}]\n",
        0,
        "mirrors: [{name: b, folder: /b}]\n",
        id="flow, first",
    ),
    pytest.param(
        '{"mirrors": [{"name": "a", "folder": "/a"}, {"name": "b", "folder": "/b"}]}',
        1,
        '{"mirrors": [{"name": "a", "folder": "/a"}]}',
        id="JSON, last",
    ),
    pytest.param(
        "mirrors: [\n  {name: a, folder: /a}, # of a\n  # of b\n  {name: b, folder: /b}\n]\n",
        0,
        "mirrors: [\n  # of b\n  {name: b, folder: /b}\n]\n",
        id="flow in lines, with comments",
    ),
]


@pytest.mark.parametrize(("text", "index", "expected"), REMOVED)
def test_mirror_is_removed_with_its_block(text: str, index: int, expected: str) -> None:
    assert without_mirror(text, index) == expected


@pytest.mark.parametrize(
    "text",
    [
        "all: &all [{name: a, folder: /a}]\nmirrors: *all\n",
        "base: &base\n  mirrors:\n    - name: a\n      folder: /a\n<<: *base\n",
        "mirrors:\n  - name: a\n    folder: |+\n      /a\n\n\n",
    ],
    ids=["alias", "merge", "a text that keeps blank lines"],
)
def test_unsafe_edits_are_refused(text: str) -> None:
    with pytest.raises(NotEditable):
        with_mirror(text, NEW)


def test_mirror_referenced_by_others_is_not_removed() -> None:
    text = "mirrors:\n  - &a {name: a, folder: /a, settle: 1s}\n  - {<<: *a, name: b, folder: /b}\n"
    with pytest.raises(NotEditable):
        without_mirror(text, 0)
    assert without_mirror(text, 1) == "mirrors:\n  - &a {name: a, folder: /a, settle: 1s}\n"


# -- any layout ----------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["a", "b-1", "ü", "知", "x y", "#", "- z", "{q}", "${X}", "it's", "1", "true", "null"]
)
MIRROR = st.dictionaries(st.sampled_from(["name", "folder", "target", "exclude"]), WORDS, min_size=1)


@long
@given(
    st.lists(MIRROR, min_size=1, max_size=3),
    st.booleans() | st.none(),
    st.sampled_from([2, 4, 7]),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.sampled_from(["", "# c", "  # d", "      # e - f"]), max_size=3),
    st.data(),
)
def test_only_the_mirror_list_changes_in_any_layout(
    mirrors: list[dict[str, str]],
    flow: bool | None,
    indent: int,
    line_end: str,
    comments: list[str],
    data: st.DataObject,
) -> None:
    config = {"state_dir": "/s", "mirrors": mirrors, "http": {"listen": "x"}}
    dumped = yaml.safe_dump(
        config, default_flow_style=flow, indent=indent, sort_keys=False, allow_unicode=True, width=30
    )
    lines = dumped.splitlines()
    if flow is False:
        for comment in comments:
            lines.insert(data.draw(st.integers(0, len(lines))), comment)
    text = line_end.join(lines) + line_end
    before = read_yaml(text).value
    assert isinstance(before, dict)
    added = read_yaml(with_mirror(text, {"name": "n", "folder": "/n"})).value
    assert added == {**before, "mirrors": [*before["mirrors"], {"name": "n", "folder": "/n"}]}  # type: ignore[misc]
    index = data.draw(st.integers(0, len(mirrors) - 1))
    if len(mirrors) > 1:
        removed = read_yaml(without_mirror(text, index)).value
        assert removed == {**before, "mirrors": before["mirrors"][:index] + before["mirrors"][index + 1 :]}  # type: ignore[index,operator]


# -- the file ------------------------------------------------------------------------------------------------


def adding(name: str, folder: Path) -> Callable[[Config, str], str]:
    return lambda _config, text: with_mirror(text, {"name": name, "folder": str(folder)})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    config = tmp_path / "conf" / "config.yaml"
    create_config(config, {}, f"mirrors:\n  - name: a\n    folder: {tmp_path}/a\n")
    return config


def test_mode_and_symlink_are_kept_and_the_target_file_is_replaced(file: Path, tmp_path: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    inode = file.stat().st_ino
    edit_config(link, {}, adding("b", tmp_path / "b"))
    assert link.is_symlink()
    assert (file.stat().st_mode & 0o777, file.stat().st_ino == inode) == (0o640, False)
    assert [mirror.name for mirror in load(file, {}).mirrors] == ["a", "b"]
    assert [entry.name for entry in file.parent.iterdir()] == ["config.yaml"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_keeps_the_owner(file: Path, tmp_path: Path) -> None:
    os.chown(file, 4711, 4712)
    file.chmod(0o640)
    edit_config(file, {}, adding("b", tmp_path / "b"))
    stat = file.stat()
    assert (stat.st_uid, stat.st_gid, stat.st_mode & 0o777) == (4711, 4712, 0o640)


def test_mode_is_not_given_to_a_file_behind_a_symlink(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the owner of the directory could make root change the mode of any file."""
    file.chmod(0o666)
    secret, fresh, copystat = tmp_path / "secret", file.with_name(".config.yaml.new"), shutil.copystat
    secret.touch(0o600)

    def replace_and_copy(*paths: Path) -> None:
        fresh.unlink()
        fresh.symlink_to(secret)
        copystat(*paths)

    monkeypatch.setattr(shutil, "copystat", replace_and_copy)
    edit_config(file, {}, adding("b", tmp_path / "b"))
    assert secret.stat().st_mode & 0o777 == 0o600


def test_byte_order_mark_is_kept(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    before = file.read_bytes()
    edit_config(file, {}, adding("b", tmp_path / "b"))
    assert file.read_bytes().startswith(before)


def test_refused_edit_leaves_the_file_unchanged(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes(), file.stat().st_ino
    with pytest.raises(UsageError, match=r"mirrors\[1\].name: a is also the name of mirrors\[0\]"):
        edit_config(file, {}, adding("a", tmp_path / "b"))
    assert (file.read_bytes(), file.stat().st_ino) == before
    assert [entry.name for entry in file.parent.iterdir()] == ["config.yaml"]


def test_concurrent_editor_changes_are_not_lost(file: Path, tmp_path: Path) -> None:
    calls = []

    def change(_config: Config, text: str) -> str:
        if not calls:
            file.write_text(f"# by hand\n{text}")
        calls.append(text)
        return with_mirror(text, {"name": "b", "folder": str(tmp_path / "b")})

    edit_config(file, {}, change)
    assert len(calls) == 2
    assert file.read_text().startswith("# by hand\n")
    assert len(load(file, {}).mirrors) == 2


def test_special_file_is_not_replaced(tmp_path: Path) -> None:
    """Root could otherwise destroy the device with `kbsync add DIR --config /dev/null`."""
    pipe, is_over = tmp_path / "pipe", threading.Event()
    os.mkfifo(pipe)

    def feed() -> None:
        while not is_over.is_set():
            pipe.open("wb").close()  # an empty file, as /dev/null is

    feeding = threading.Thread(target=feed, daemon=True)
    feeding.start()
    try:
        with pytest.raises(NotEditable, match="not a regular file"):
            edit_config(pipe, {}, adding("b", tmp_path / "b"))
        assert pipe.is_fifo()
    finally:
        is_over.set()
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        feeding.join()
        os.close(reader)


@pytest.mark.parametrize("during", ["lock", "edit"])
def test_file_behind_a_symlink_switched_in_the_meantime_is_edited(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    """As a tool does that replaces a whole directory of settings by switching a symlink."""
    link, other = tmp_path / "link.yaml", tmp_path / "other" / "config.yaml"
    link.symlink_to(file)
    create_config(other, {}, f"mirrors:\n  - name: c\n    folder: {tmp_path}/c\n")
    before, flock = file.read_bytes(), fcntl.flock

    def switch() -> None:
        link.unlink()
        link.symlink_to(other)

    def switch_and_lock(descriptor: int, operation: int) -> None:
        switch()
        flock(descriptor, operation)

    def change(_config: Config, text: str) -> str:
        if during == "edit":
            switch()
        return with_mirror(text, {"name": "b", "folder": str(tmp_path / "b")})

    if during == "lock":
        monkeypatch.setattr(fcntl, "flock", switch_and_lock)
    edit_config(link, {}, change)
    assert file.read_bytes() == before
    assert [mirror.name for mirror in load(other, {}).mirrors] == ["c", "b"]


@long
def test_concurrent_edits_are_all_kept(file: Path, tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(12)]
    threads = [
        threading.Thread(target=edit_config, args=(file, {}, adding(name, tmp_path / name))) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mirror.name for mirror in load(file, {}).mirrors) == sorted(["a", *names])


def test_config_in_an_unlockable_directory_is_edited(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    edit_config(file, {}, adding("b", tmp_path / "b"))
    assert len(load(file, {}).mirrors) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminated_edit_leaves_no_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = file.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _descriptor: os.kill(os.getpid(), number))
    earlier = signal.signal(number, signal.SIG_DFL)  # SIGHUP is ignored if the tests run under nohup
    try:
        with pytest.raises(SystemExit) as ended:
            edit_config(file, {}, lambda _config, text: f"{text}# another line\n")
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, earlier)
    assert ended.value.code == 128 + number
    assert (file.read_bytes(), list(file.parent.glob(".*"))) == (before, [])


def test_leftovers_of_a_killed_edit_are_overwritten(file: Path, tmp_path: Path) -> None:
    leftover = file.with_name(".config.yaml.new")
    leftover.write_text("half a")
    leftover.chmod(0)
    edit_config(file, {}, adding("b", tmp_path / "b"))
    assert os.listdir(file.parent) == ["config.yaml"]
