"""kbsync keeps a folder of documents mirrored into a knowledge base."""

import os

__version__ = "0.1.0"


def revision() -> str:
    """Return the commit of this build, or "" if the build didn't record it or the install is editable."""
    path = os.path.join(os.path.dirname(__file__), "REVISION")  # noqa: PTH120 (pathlib is slow to load)
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def version_and_revision() -> str:
    """Return the version and the commit; for example, `0.1.0 (5c343f7d01ab)`."""
    built_from = revision()
    return f"{__version__} ({built_from})" if built_from else __version__


def install_command(*packages: str, reinstall: bool = False) -> str:
    """Return a shell command that installs these packages in the versions that this kbsync requires.

    `reinstall`: whether the packages are already installed but damaged.
    """
    import re  # these imports are slow as well
    import shlex
    import sys
    from importlib import metadata

    try:
        required = metadata.requires("kbsync") or []
    except metadata.PackageNotFoundError:  # kbsync runs from source
        required = []
    known = {
        re.split(r"[\[<>=!~; ]", requirement)[0]: requirement.partition(";")[0].strip()
        for requirement in reversed(required)
    }
    options = ["--force-reinstall", "--no-deps"] if reinstall else []
    # Name this Python by its path: the shell's `pip` may belong to a different one. uv's environments have no
    # pip.
    if any(metadata.distributions(name="pip")):
        command = [sys.executable, "-m", "pip", "install"]
    else:
        command = ["uv", "pip", "install", "--python", sys.executable]
    return shlex.join([*command, *options, *(known.get(name, name) for name in packages)])
