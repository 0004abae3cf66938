"""The packages that kbsync needs, and the command that installs one where this kbsync looks for it."""

from __future__ import annotations

import re
import shlex
import sys
from importlib import metadata


def installing(*names: str, anew: bool = False) -> str:
    """A command to paste. `anew`: what is there is damaged, and is to be replaced.

    It names this Python: the `pip` of a shell may be that of another one.
    """
    options = ["--force-reinstall", "--no-deps"] if anew else []
    return shlex.join([sys.executable, "-m", "pip", "install", *options, *map(_requirement, names)])


def _requirement(name: str) -> str:
    """With the versions that go with this kbsync."""
    try:
        required = metadata.requires("kbsync") or []
    except metadata.PackageNotFoundError:  # it runs from its source
        required = []
    fitting = (each.partition(";")[0].strip() for each in required)
    return next((each for each in fitting if re.split(r"[\[<>=!~ ]", each)[0] == name), name)
