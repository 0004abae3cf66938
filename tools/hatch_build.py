"""Adds `kbsync/REVISION` to the package at build time: the commit that it was built from."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

REVISION = "kbsync/REVISION"
ELSEWHERE = (
    "kbsync runs on Linux; on macOS and Windows, run kbsync in a container; docs/platforms.md has the "
    "commands"
)


def revision(root: Path) -> str:
    """Return `KBSYNC_REVISION`, else the commit of the checkout `root`; "" if neither is known."""
    if commit := os.environ.get("KBSYNC_REVISION", "").strip():
        return commit
    if not (root / ".git").exists():  # a checkout above it belongs to another project
        return ""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class Revised(BuildHookInterface):
    """Adds the revision to a package; an sdist passes it on to the wheel built from it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Run before each build. `version` is "editable" for an editable install."""
        if sys.platform != "linux":
            raise SystemExit(ELSEWHERE)
        root = Path(self.root)
        if version == "editable" or (root / REVISION).exists() or not (commit := revision(root)):
            return
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name, "REVISION")
        file.write_text(f"{commit}\n")
        build_data["force_include"][str(file)] = REVISION

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Run after each build."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
