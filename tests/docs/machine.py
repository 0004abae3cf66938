"""Simulates a machine in a folder, for pages whose commands install programs or change the machine.

Every absolute path is below that folder. Stand-ins replace commands that need root, systemd, a registry or a
container engine, and check their arguments; all other commands run as printed, including kbsync's own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT
from tests.programs import run_program, write_program

# The reader's own paths, such as ~/notes, stay unchanged.
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
[ "$verb" = restart ] && [ -n "$CREDENTIALS_DIRECTORY" ] && chmod -R u+rwX "$CREDENTIALS_DIRECTORY"
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
PIPX = """\
case "$*" in
"install .[mcp]"|"tool install .[mcp]") grep -q '^name = "kbsync"' pyproject.toml || exit 1
    mkdir -p "$HOME/.local/bin"
    printf '#!/bin/sh\\nexec "%s" -m kbsync "$@"\\n' "$INTERPRETER" >"$HOME/.local/bin/kbsync"
    chmod +x "$HOME/.local/bin/kbsync" ;;
"upgrade kbsync") [ -x "$HOME/.local/bin/kbsync" ] ;;
*) exit 1 ;;
esac
"""
STAND_INS = {
    "sudo": 'case "$1 $2" in "-u kbsync" | "-u root") shift 2 ;; esac; exec "$@"',
    "python3": PYTHON,
    "pip": PIP,
    "systemctl": SYSTEMCTL,
    "systemd-sysusers": '[ -f "$MACHINE/etc/sysusers.d/kbsync.conf" ]',
    "journalctl": '[ "$1 $2" = "-u kbsync" ]',
    "chgrp": '[ "$1" = kbsync ] && [ -f "$2" ]',
    "setfacl": 'for last; do :; done; [ -d "$last" ] && chmod -R o+rX "$last"',
    "timedatectl": '[ "$*" = "set-ntp true" ]',
    "pipx": PIPX,
    "uv": PIPX,
    "docker": f'exec "$INTERPRETER" "{Path(__file__).with_name("engine.py")}" "$@"',
    "sysctl": """\
[ "$1" = -w ] && [ -e "/proc/sys/$(echo "${2%%=*}" | tr . /)" ] && [ "${2#*=}" -gt 0 ] || exit 1
echo "$2" >>"$MACHINE/sysctl"
""",
    "userdel": '[ "$1" = kbsync ]',
}


def stand_ins(root: Path) -> Path:
    """Return a folder for a shell's PATH with stand-ins for the machine in `root`."""
    for name, script in STAND_INS.items():
        write_program(root / "stand-ins" / name, script)
    return root / "stand-ins"


def moved(root: Path, commands: str) -> str:
    """Return `commands` with the machine's paths moved below `root`."""
    return re.sub(PLACES, rf"{root}/\1", commands)


class Machine:
    """A folder with the machine's paths, and stand-ins for root and systemd."""

    def __init__(self, root: Path) -> None:
        self.root = root
        programs = stand_ins(root)
        for name in ("srv/handbook", "srv/team", "var/backups", "usr/local/bin", "home/notes"):
            (root / name).mkdir(parents=True)
        # Without these a page would mirror nothing, and no command would fail.
        for folder in ("srv/handbook", "srv/team"):
            (root / folder / "a.md").write_text("alpha")
        self.source = root / "source"  # the project's folder, with a key to install
        self.source.mkdir()
        for part in ("pyproject.toml", "systemd", "docker"):
            (self.source / part).symlink_to(ROOT / part)
        (self.source / "zhipu.key").write_text("id.secret\n")
        self.environ = {
            "HOME": str(root / "home"),
            "MACHINE": str(root),
            "STAND_INS": str(programs),
            "INTERPRETER": sys.executable,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{programs}:{root}/usr/local/bin:{root}/home/.local/bin:/usr/bin:/bin",
            "KBSYNC_CONFIG": str(root / "etc" / "kbsync" / "config.yaml"),
            "STATE_DIRECTORY": str(root / "var" / "lib" / "kbsync"),
        }

    def do(self, commands: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-e", "-c", moved(self.root, commands)]
        return run_program(*words, cwd=self.source, env=self.environ)

    def installed(self) -> None:
        """Set up a machine that uses kbsync already: a program, a config and a state of a person's own."""
        for command in ("pipx install '.[mcp]'", "mkdir -p /etc/sysctl.d ~/.config/systemd/user"):
            assert self.do(command).returncode == 0
        del self.environ["KBSYNC_CONFIG"], self.environ["STATE_DIRECTORY"]
        (self.root / "home/.config/systemd/user/kbsync.service").touch()
        for command in ("kbsync init ~/notes", "kbsync --once"):
            assert self.do(command).returncode == 0

    def holds(self, path: str) -> bool:
        return os.path.lexists(self.root / path)
