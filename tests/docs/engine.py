"""Replaces docker on a simulated machine: runs the docker files without containers.

Usage: python tests/docs/engine.py build -f FILE -t NAME . | compose -f FILE up --detach
| compose -f FILE exec SERVICE COMMAND...

A volume is a folder of the machine; a path in a container is in one of the mounted folders.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

MACHINE = Path(os.environ["MACHINE"])


class ComposeService:
    """One service of a compose file in `folder`."""

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self._description = description
        self._mounts = dict(self._mounted(folder, *mount.split(":")) for mount in description["volumes"])

    def _mounted(self, folder: Path, source: str, mount_point: str, *_mode: str) -> tuple[str, Path]:
        if source.startswith("."):
            assert (folder / source).is_file(), source
            return mount_point, folder / source
        volume = MACHINE / "volumes" / source
        volume.mkdir(parents=True, exist_ok=True)
        return mount_point, volume

    def moved(self, text: str) -> str:
        """Return `text` with the container's paths replaced by the machine's."""
        for mount_point, folder in self._mounts.items():
            text = text.replace(mount_point, str(folder))
        return text

    def up(self) -> None:
        """Run another program for a moment, or a pass of kbsync."""
        if "build" in self._description:
            self.run(["kbsync", "--once", "--quiet"])
        else:
            subprocess.run(["timeout", "1", *map(self.moved, self._description["command"])], check=False)

    def run(self, command: list[str]) -> int:
        """Run a command in the container."""
        config = MACHINE / "moved.yaml"
        config.write_text(self.moved(self._mounts["/etc/kbsync/config.yaml"].read_text()))
        environ = {**os.environ, "KBSYNC_CONFIG": str(config)}
        words = [os.environ["INTERPRETER"], "-m", *command] if command[0] == "kbsync" else command
        return subprocess.run(words, env=environ, check=False).returncode


def main() -> int:
    """Do the work of docker."""
    match sys.argv[1:]:
        case ["build", "-f", "docker/Dockerfile", "-t", "kbsync", "."]:
            pass  # tests/packaging/test_image.py reads the file
        case ["compose", "-f", file, "up", "--detach"]:
            for service in services(file).values():
                service.up()
        case ["compose", "-f", file, "exec", name, *command]:
            return services(file)[name].run(command)
        case words:
            sys.exit(f"what is docker {' '.join(words)}?")
    return 0


def services(file: str) -> dict[str, ComposeService]:
    """Return the services of a compose file, in order."""
    described = yaml.safe_load(Path(file).read_text())["services"]
    return {name: ComposeService(Path(file).parent, description) for name, description in described.items()}


if __name__ == "__main__":
    sys.exit(main())
