"""The page about the service from its first command to its last, on a machine made of a folder.

Every absolute path is one below that folder. What only root or a running systemd could do is a stand-in that
checks what it is asked; everything else is done as it stands, kbsync's own commands included.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kbsync.config.loader import load
from kbsync.config.model import ZhipuTargetConfig
from tests.docs.pages import ROOT, blocks
from tests.programs import needs

PAGE = ROOT / "docs" / "service.md"
PLACES = r"(?<![\w.~/])/(opt|etc|usr/local|var|srv|run)\b"

PYTHON = """\
[ "$1 $2" = "-m venv" ] && mkdir -p "$3/bin" && cp "$STAND_INS/pip" "$3/bin/pip"
"""
PIP = """\
[ "$1" = install ] && grep -q '^name = "kbsync"' pyproject.toml || exit 1
printf '#!/bin/sh\\nexec "%s" -m kbsync "$@"\\n' "$INTERPRETER" >"$(dirname "$0")/kbsync"
chmod +x "$(dirname "$0")/kbsync"
"""
SYSTEMCTL = """\
case $1 in
    --user) shift; units=$HOME/.config/systemd/user state=$HOME ;;
    *) units=$MACHINE/etc/systemd/system state=$MACHINE/var/lib ;;
esac
verb=$1
shift
[ "$1" = --now ] && shift
case $verb in daemon-reload) ;; enable|disable|reload|restart|status|list-timers) ;; *) exit 1 ;; esac
for name in "$@"; do
    case $name in *.timer) file=$name ;; *@*) file=${name%@*}@.service ;; *) file=$name.service ;; esac
    [ -f "$units/$file" ] || { echo "no unit $units/$file" >&2; exit 1; }
    instance=${name#*@}
    case $verb,$file in
    enable,kbsync.service) [ "$units" = "$HOME/.config/systemd/user" ] || set -- config kbsync ;;
    enable,kbsync@.service) set -- "$instance" "kbsync-$instance" ;;
    *) continue ;;
    esac
    [ $# = 2 ] || continue
    STATE_DIRECTORY=$state/$2 kbsync --once --quiet --config "$MACHINE/etc/kbsync/$1.yaml"
done
"""
STAND_INS = {
    "sudo": 'if [ "$1" = -u ]; then [ "$2" = kbsync ] && shift 2; fi; exec "$@"',
    "python3": PYTHON,
    "pip": PIP,
    "systemctl": SYSTEMCTL,
    "systemd-sysusers": '[ -f "$MACHINE/etc/sysusers.d/kbsync.conf" ]',
    "journalctl": '[ "$1 $2" = "-u kbsync" ]',
    "chgrp": '[ "$1" = kbsync ] && [ -f "$2" ]',
    "setfacl": 'for last; do :; done; [ -d "$last" ]',
    "userdel": '[ "$1" = kbsync ]',
}


class Machine:
    """A folder with the machine's places in it, and what stands in for root and systemd."""

    def __init__(self, root: Path) -> None:
        self.root = root
        stand_ins = root / "stand-ins"
        stand_ins.mkdir()
        for name, script in STAND_INS.items():
            (stand_ins / name).write_text(f"#!/bin/sh\n{script}\n")
            (stand_ins / name).chmod(0o755)
        for name in ("srv/handbook", "srv/team", "var/backups", "usr/local/bin", "home/notes"):
            (root / name).mkdir(parents=True)
        for folder in ("srv/handbook", "srv/team"):
            (root / folder / "a.md").write_text("alpha")
        self.source = root / "source"  # the project's folder, with a key that is to be installed
        self.source.mkdir()
        for one in ("pyproject.toml", "systemd"):
            (self.source / one).symlink_to(ROOT / one)
        (self.source / "zhipu.key").write_text("id.secret\n")
        self.environ = {
            "HOME": str(root / "home"),
            "MACHINE": str(root),
            "STAND_INS": str(stand_ins),
            "INTERPRETER": sys.executable,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{stand_ins}:{root}/usr/local/bin:/usr/bin:/bin",
            "KBSYNC_CONFIG": str(root / "etc" / "kbsync" / "config.yaml"),
            "STATE_DIRECTORY": str(root / "var" / "lib" / "kbsync"),
        }

    def do(self, commands: str) -> subprocess.CompletedProcess[str]:
        moved = re.sub(PLACES, rf"{self.root}/\1", commands)
        return subprocess.run(
            ["bash", "-e", "-c", moved],
            cwd=self.source,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )

    def holds(self, path: str) -> bool:
        return os.path.lexists(self.root / path)


def sections() -> dict[str, list[str]]:
    """The shell blocks of the page by the heading they stand under."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        found[part.partition("\n")[0]] = re.findall(r"^```sh\n(.*?)^```$", part, re.M | re.S)
    return found


def test_the_page_is_followed_from_install_to_uninstall(tmp_path: Path) -> None:
    machine, said = Machine(tmp_path), dict[str, str]()
    for heading, commands in sections().items():
        for block in commands:
            done = machine.do(block)
            assert done.returncode == 0, f"{heading}: {block}{done.stdout}{done.stderr}"
            said[heading] = said.get(heading, "") + done.stdout
        if heading == "Keys":
            assert (tmp_path / "etc/kbsync/keys/zhipu").stat().st_mode & 0o777 == 0o600
        if heading == "Start":
            assert (tmp_path / "etc/kbsync/config.yaml").stat().st_mode & 0o777 == 0o640
            assert machine.holds("var/lib/kbsync/state.db")
        if heading == "Upgrade":
            assert machine.holds("var/backups/kbsync.db")
        if heading == "Uninstall":
            break
    assert "+ a.md" in said["Configure"]
    assert "handbook" in said["Start"]
    assert "team" in said["Several services"]
    left = [
        path for path in tmp_path.rglob("*kbsync*") if tmp_path / "var/lib/kbsync-team" not in path.parents
    ]
    assert sorted(str(path.relative_to(tmp_path)) for path in left) == LEFT


LEFT = ["var/backups/kbsync.db", "var/lib/kbsync-team"]


def test_one_person_needs_no_root(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    install = sections()["Install"][0].splitlines()
    assert machine.do("\n".join(install[:3])).returncode == 0
    del machine.environ["KBSYNC_CONFIG"], machine.environ["STATE_DIRECTORY"]
    (machine.root / "stand-ins" / "sudo").unlink()
    [commands] = sections()["For one person"]
    done = machine.do(commands)
    assert done.returncode == 0, done.stderr
    assert machine.holds("home/.config/kbsync/config.yaml")


@needs("systemd-analyze")
def test_the_key_that_the_page_installs_is_one_systemd_understands(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.do("mkdir -p /etc/kbsync /etc/systemd/system").returncode == 0
    assert machine.do(sections()["Keys"][0]).returncode == 0
    units = tmp_path / "etc/systemd/system"
    for name in ("kbsync.service", "kbsync-once.service"):
        unit = (ROOT / "systemd" / name).read_text()
        (units / name).write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(units / name)],
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        seen = (units / f"{name}.d/zhipu.conf").read_text()
        assert seen == f"[Service]\nLoadCredential=zhipu:{tmp_path}/etc/kbsync/keys/zhipu\n"


def test_the_key_that_the_page_installs_is_read_where_systemd_shows_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    [line] = re.findall(r"`(api_key_file: .*?)`", PAGE.read_text())
    assert machine.do("mkdir -p /etc/kbsync /etc/systemd/system").returncode == 0
    assert machine.do(sections()["Keys"][0]).returncode == 0
    config = tmp_path / "config.yaml"
    target = f"{{type: zhipu, knowledge_id: '1', {line}}}"
    config.write_text(
        f"mirrors: [{{name: a, folder: /srv/a, target: {target}}}]\n".replace("${", '"${').replace(
            "/zhipu}", '/zhipu"}'
        )
    )
    loaded = load(config, {"CREDENTIALS_DIRECTORY": str(tmp_path / "etc/kbsync/keys")}).mirrors[0].target
    assert isinstance(loaded, ZhipuTargetConfig)
    assert loaded.api_key.reveal() == "id.secret"


@needs("systemd-sysusers")
def test_the_user_can_be_made(tmp_path: Path) -> None:
    conf = tmp_path / "etc/sysusers.d/kbsync.conf"
    conf.parent.mkdir(parents=True)
    conf.write_bytes((ROOT / "systemd/kbsync.sysusers").read_bytes())
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], check=True, capture_output=True)
    assert "kbsync:" in (tmp_path / "etc/passwd").read_text()


def test_every_block_of_the_page_is_followed() -> None:
    followed = [block for commands in sections().values() for block in commands]
    assert [block.text for block in blocks(PAGE, "sh", "console")] == followed
    assert list(sections()).index("Uninstall") < list(sections()).index("For one person")


@pytest.mark.parametrize("word", ["READY=1", "STATUS=", "RELOADING=1", "WATCHDOG=1", "STOPPING=1"])
def test_every_word_to_systemd_is_explained(word: str) -> None:
    assert f"`{word}`" in PAGE.read_text()
    assert word in (ROOT / "kbsync" / "supervised.py").read_text()
