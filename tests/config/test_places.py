from __future__ import annotations

import hashlib
import os
import pwd
import stat
import threading
import time
from pathlib import Path
from typing import NoReturn

import pytest

from kbsync import file_systems
from kbsync.config.model import Config, MirrorConfig
from kbsync.config.places import (
    SYSTEM_CONFIG,
    KnownFolder,
    check_state_dir,
    config_places,
    find_config,
    folder_state_dir,
    home,
    known_folder_for,
    known_folders,
    network_file_system,
    note_folder,
    state_dir,
    state_home,
)
from kbsync.errors import UsageError
from kbsync.file_systems import access_within

HOME = {"HOME": "/home/someone"}
USER_STATE = Path("/home/someone/.local/state/kbsync")


def config(path: str | None = None, state: str | None = None) -> Config:
    """Return a config at `path` that names the state directory `state`."""
    mirror = MirrorConfig(name="a", folder=Path("/srv/a"))
    return Config((mirror,), state_dir=Path(state) if state else None, path=Path(path) if path else None)


def test_user_config_is_looked_up_before_the_system_one() -> None:
    assert config_places(HOME) == (Path("/home/someone/.config/kbsync/config.yaml"), SYSTEM_CONFIG)
    assert config_places({**HOME, "XDG_CONFIG_HOME": "/cfg"})[0] == Path("/cfg/kbsync/config.yaml")
    assert config_places({**HOME, "XDG_CONFIG_HOME": "relative"}) == config_places(HOME)
    assert config_places({**HOME, "KBSYNC_CONFIG": "/x.yaml"}) == (Path("/x.yaml"),)


def test_first_existing_config_is_used_and_an_explicit_one_is_never_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"HOME": str(tmp_path)}
    monkeypatch.chdir(tmp_path)
    for name in ("config.yaml", "kbsync.yaml", ".kbsync.yaml"):
        (tmp_path / name).touch()  # a config in the working directory is never used
    assert find_config(None, environ) in (None, SYSTEM_CONFIG)
    user = tmp_path / ".config/kbsync/config.yaml"
    user.parent.mkdir(parents=True)
    user.touch()
    assert find_config(None, environ) == user
    environ["KBSYNC_CONFIG"] = "/not/there.yaml"
    assert find_config(None, environ) == Path("/not/there.yaml")
    assert find_config(Path("nor/here.yaml"), environ) == Path("nor/here.yaml")


def test_state_dir_comes_from_the_first_source_that_sets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    systemd = {**HOME, "STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}
    system = "/etc/kbsync/config.yaml"
    named = config(system, state="/data/state")
    assert state_dir(systemd, explicit=Path("here"), config=named) == tmp_path / "here"
    assert state_dir(systemd, config=named) == Path("/data/state")
    assert state_dir(systemd, config=config(system)) == Path("/var/lib/one")
    assert state_dir(HOME, config=config(system)) == Path("/var/lib/kbsync")
    assert state_dir(HOME, config=config("/etc/kbsync/more/x.yaml")) == Path("/var/lib/kbsync")
    assert state_dir(HOME, config=config("/etc/kbsync-old/config.yaml")) == USER_STATE
    assert state_dir(HOME, config=config("/home/someone/x.yaml")) == USER_STATE
    assert state_dir(HOME) == USER_STATE
    assert state_dir({**HOME, "XDG_STATE_HOME": "/st"}) == Path("/st/kbsync")


def test_folder_state_is_below_the_state_home(tmp_path: Path) -> None:
    (tmp_path / "My Docs").mkdir()
    (tmp_path / "link").symlink_to("My Docs")
    digest = hashlib.sha256(os.fsencode(tmp_path / "My Docs")).hexdigest()[:8]
    environ = {**HOME, "STATE_DIRECTORY": "/var/lib/one"}
    assert state_dir(environ, folder=tmp_path / "My Docs") == USER_STATE / "folders" / f"my-docs-{digest}"
    assert state_dir(environ, folder=tmp_path / "link") == USER_STATE / "folders" / f"link-{digest}"
    assert state_dir(HOME, explicit=Path("/data/x"), folder=Path("/srv/docs")) == Path("/data/x")


def test_missing_home_comes_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_user: int) -> NoReturn:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert home({"HOME": "relative"}) is None
    with pytest.raises(UsageError, match="pass --state-dir DIR"):
        state_home({})
    assert config_places({}) == (SYSTEM_CONFIG,)


@pytest.mark.parametrize("relative", ["", ".", "someone"])
def test_relative_home_never_leads_to_a_config_in_the_working_directory(
    relative: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / relative / ".config" / "kbsync" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("mirrors: []\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", relative)
    real = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert config_places({"HOME": relative}) == (real / ".config/kbsync/config.yaml", SYSTEM_CONFIG)
    assert state_home({"HOME": relative}) == real / ".local/state/kbsync"


def test_state_directory_is_created_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    check_state_dir(folder)
    check_state_dir(folder)
    assert [stat.S_IMODE(directory.stat().st_mode) for directory in (folder, folder.parent)] == [0o700, 0o700]
    folder.chmod(0o755)  # an existing directory keeps its mode
    check_state_dir(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_read_only_commands_create_nothing(tmp_path: Path) -> None:
    check_state_dir(tmp_path / "state", create=False)
    assert not (tmp_path / "state").exists()
    with pytest.raises(UsageError, match="is inside"):
        check_state_dir(tmp_path / "state", [tmp_path], create=False)


@pytest.mark.parametrize(
    ("state", "folder"), [("docs", "docs"), ("docs/st", "docs"), ("link/st", "docs"), ("st", "st/d")]
)
def test_state_directory_and_mirrored_folder_must_not_nest(tmp_path: Path, state: str, folder: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "link").symlink_to("docs")
    with pytest.raises(UsageError, match=r"is inside .*--state-dir"):
        check_state_dir(tmp_path / state, [tmp_path / "other", tmp_path / folder])
    assert not (tmp_path / "docs/st").exists()


def test_unusable_state_directory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for folder in (Path("/proc"), Path("/proc/kbsync")):
        with pytest.raises(UsageError, match="is among the kernel's own files; choose another with --state-"):
            check_state_dir(folder)
    for folder in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UsageError, match=r"cannot be created \(.*\); choose another with --state-dir"):
            check_state_dir(folder)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # root may write anywhere
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match=rf"is not writable; choose .*, or run: chmod u\+rwX {tmp_path}$"):
        check_state_dir(tmp_path)
    tmp_path.chmod(0o700)  # now something else denies access; for example, it is immutable (chattr +i)
    with pytest.raises(UsageError, match="in the config, or run kbsync as the user who owns it"):
        check_state_dir(tmp_path)
    tmp_path.chmod(0o500)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(UsageError, match="in the config, or run kbsync as the user who owns it"):
        check_state_dir(tmp_path)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("create", [True, False])
def test_link_to_a_missing_state_directory_is_reported(tmp_path: Path, create: bool) -> None:
    link, disk = tmp_path / "state", tmp_path / "disk"
    link.symlink_to(disk)
    for folder in (link, link / "below"):
        with pytest.raises(UsageError) as caught:
            check_state_dir(folder, create=create)
        assert f"({link} is a symlink to the missing {disk}; mount its disk)" in str(caught.value)
    disk.write_text("a file")
    with pytest.raises(UsageError, match="is not a directory"):
        check_state_dir(disk, create=create)


def test_state_directory_on_a_network_file_system_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / {tmp_path}/nfs rw - nfs4 h:/x rw\n")
    monkeypatch.setattr(file_systems, "MOUNTINFO", mountinfo)
    (tmp_path / "link").symlink_to("nfs")
    for directory in ("nfs", "link"):
        with pytest.raises(UsageError, match=r"network file system \(nfs4\).*--state-dir.* on a local disk"):
            check_state_dir(tmp_path / directory / "state")
    assert not (tmp_path / "nfs").exists()
    check_state_dir(tmp_path / "local")


def test_folders_of_earlier_runs_are_known(tmp_path: Path) -> None:
    below = tmp_path / "state"
    folders = [tmp_path / "b", tmp_path / "a", tmp_path / "caf\udce9"]
    assert known_folders(below) == []
    for folder in folders:
        folder.mkdir()
        state_dir = folder_state_dir(folder, below)
        check_state_dir(state_dir)
        note_folder(state_dir, folder)
        note_folder(state_dir, folder)
        assert sorted(entry.name for entry in state_dir.iterdir()) == ["folder"]
        assert stat.S_IMODE((state_dir / "folder").stat().st_mode) == 0o600
    (below / "folders" / "half-made").mkdir()
    (below / "folders" / "damaged").mkdir()
    (below / "folders" / "damaged" / "folder").write_bytes(b"relative")
    (below / "folders" / "file").touch()
    assert known_folders(below) == [
        KnownFolder(folder, folder_state_dir(folder, below)) for folder in sorted(folders)
    ]


def test_innermost_known_folder_containing_a_directory_is_used(tmp_path: Path) -> None:
    below = tmp_path / "state"
    (tmp_path / "link").symlink_to("docs")
    (tmp_path / "docs/inner").mkdir(parents=True)
    for name in ("link", "docs/inner"):  # noted through a link is its real path
        folder = folder_state_dir(tmp_path / name, below)
        check_state_dir(folder)
        note_folder(folder, tmp_path / name)

    def folder_for(name: str) -> Path | None:
        known_folder = known_folder_for(tmp_path / name, below)
        return known_folder and known_folder.folder

    assert folder_for("docs") == tmp_path / "docs"
    assert folder_for("link/x/y") == tmp_path / "docs"
    assert folder_for("docs/inner/x") == tmp_path / "docs/inner"
    assert folder_for("docs-old") is None
    assert folder_for(".") is None


# ---- network file systems


MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /mnt/nfs rw shared:1 - nfs4 host:/x rw
31 30 0:41 / /mnt/nfs/local rw - xfs /dev/vdb rw
32 27 0:42 / /mnt/my\\040share rw master:2 propagate_from:1 - cifs //h/s rw
33 27 0:43 / /mnt/ssh rw - fuse.sshfs u@h: rw
34 27 0:44 / /mnt/ntfs rw - fuseblk /dev/vdc rw
35 27 0:45 / /mnt/auto rw - autofs systemd-1 rw
36 35 0:46 / /mnt/auto rw - nfs host:/y rw
37 27 0:47 / /mnt/win rw - 9p C: rw
38 27 0:48 / /mnt/smb rw - smb3 //h/s rw
39 27 0:49 / /mnt/ov rw - overlay overlay rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", None),
        ("/home/x", None),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfs/a/b", "nfs4"),
        ("/mnt/nfsx", None),
        ("/mnt/nfs/local/a", None),
        ("/mnt/my share/a", "cifs"),
        ("/mnt/ssh/a", "fuse.sshfs"),
        ("/mnt/ntfs/a", None),
        ("/mnt/auto/a", "nfs"),
        ("/mnt/win/a", "9p"),
        ("/mnt/smb/a", "smb3"),
        ("/mnt/ov/a", None),
    ],
)
def test_network_file_systems_are_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str | None
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)
    monkeypatch.setattr(file_systems, "MOUNTINFO", mountinfo)
    assert network_file_system(Path(path)) == kind
    mountinfo.unlink()
    assert network_file_system(Path(path)) is None


@pytest.mark.parametrize(
    ("point", "options", "failed"),
    [
        ("rw,relatime shared:1", "rw,errors=remount-ro", False),
        ("ro,relatime shared:1", "ro,errors=remount-ro", False),
        ("ro,relatime", "rw", False),
        ("rw,relatime shared:1", "ro,errors=remount-ro", True),
        ("rw,relatime", "rw,errors=remount-ro,emergency_ro", True),
    ],
)
def test_failed_file_system_differs_from_one_mounted_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, options: str, failed: bool
) -> None:
    (mountinfo := tmp_path / "mountinfo").write_text(
        f"45 27 7:0 / {tmp_path} {point} - ext4 /dev/sdb {options}\n"
    )
    monkeypatch.setattr(file_systems, "MOUNTINFO", mountinfo)
    assert file_systems.has_failed(tmp_path / "none" / "yet") is failed


def test_note_of_a_folder_that_cannot_be_replaced_leaves_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        note_folder(tmp_path, tmp_path / "docs")
    assert os.listdir(tmp_path) == ["folder"]


def test_state_directory_that_another_process_is_creating_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It appears between two checks of the path."""
    path, is_link = tmp_path / "kbsync", os.path.islink

    def create(part: Path) -> bool:
        path.mkdir(exist_ok=True)
        return is_link(part)

    monkeypatch.setattr(os.path, "islink", create)
    check_state_dir(path, create=False)
    assert path.is_dir()


def test_another_process_waits_for_a_file_system_in_fuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, mountinfo, flag, calls = (
        tmp_path / "stat",
        tmp_path / "mountinfo",
        tmp_path / "flag",
        list[str](),
    )
    program.write_text(f"#!/bin/sh\ntest $3 = {tmp_path} && while test -e {flag}; do sleep 0.01; done\n")
    program.chmod(0o700)
    flag.touch()
    mountinfo.write_text(f"33 27 0:43 / {tmp_path} rw - fuse.sshfs u@h: rw\n")
    monkeypatch.setattr(file_systems, "STAT", str(program))
    monkeypatch.setattr(file_systems, "MOUNTINFO", mountinfo)
    with pytest.raises(TimeoutError):
        access_within(tmp_path, lambda: calls.append("hangs"), 0.2)
    assert calls == []
    assert access_within(tmp_path.parent, lambda: "responds", 20.0) == "responds"
    flag.unlink()
    access_within(tmp_path, lambda: calls.append("responds"), 20.0)
    # No other process is started soon afterwards.
    flag.touch()
    access_within(tmp_path, lambda: calls.append("responds again"), 20.0)
    assert calls == ["hangs", "responds", "responds again"]


def test_only_one_call_waits_for_a_path_that_does_not_respond() -> None:
    responds, started = threading.Event(), list[int]()

    def access(number: int, seconds: float) -> int:
        def call() -> int:
            started.append(number)
            responds.wait(20.0)
            return number

        return access_within(Path("/mnt/nas"), call, seconds)

    began = time.monotonic()
    for number, seconds in enumerate((0.05, 0.05, 0.1)):
        with pytest.raises(TimeoutError, match="its file system isn't responding"):
            access(number, seconds)
    assert time.monotonic() - began < 5.0
    assert access_within(Path("/mnt/other"), lambda: "responds", 5.0) == "responds"
    assert started == [0]
    responds.set()
    assert access(3, 20.0) == 3
    with pytest.raises(FileNotFoundError):
        access_within(Path("/nowhere"), lambda: os.stat("/nowhere"))


@pytest.mark.parametrize("has_ended", [True, False])
def test_interrupt_while_the_thread_starts_is_not_hidden_by_another_error(
    monkeypatch: pytest.MonkeyPatch, has_ended: bool
) -> None:
    start, started, responds = threading.Thread.start, list[threading.Thread](), threading.Event()

    def start_then_interrupt(thread: threading.Thread) -> None:
        started.append(thread)
        start(thread)
        if has_ended:
            responds.set()
            thread.join()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_then_interrupt)
        with pytest.raises(KeyboardInterrupt):
            access_within(Path("/mnt/nas"), lambda: responds.wait(20.0), 20.0)
    responds.set()
    started[0].join()  # an error in the thread fails the test
    assert access_within(Path("/mnt/nas"), lambda: "responds", 20.0) == "responds"
