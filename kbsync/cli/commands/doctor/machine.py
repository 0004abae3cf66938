"""Checks of the machine: versions, disk space and inodes, credentials that systemd hands over."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from kbsync import version_and_revision
from kbsync.cli.commands.doctor.command import CheckResult, warning, wrong
from kbsync.cli.exit_codes import Code
from kbsync.core.text import shell_word, sized
from kbsync.packages import installing

LIBRARIES = ("apsw", "click", "httpx", "kreuzberg", "numpy", "tokenizers", "uvicorn", "watchdog")
LITTLE_SPACE, NO_SPACE = 500_000_000, 20_000_000
FEW_INODES, NO_INODES = 5_000, 50


def versions() -> Iterator[CheckResult]:
    """This program, Python, SQLite and the libraries that matter."""
    import apsw

    yield CheckResult(
        "versions",
        f"kbsync {version_and_revision()}, Python {platform.python_version()}, "
        f"SQLite {apsw.sqlitelibversion()}, {platform.system()} {platform.release()}",
    )
    found = {name: _version(name) for name in LIBRARIES}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        cure = installing(*missing)
        yield wrong("libraries", f"not installed: {', '.join(missing)}", cure, Code.USAGE)
    else:
        yield CheckResult("libraries", ", ".join(f"{name} {version}" for name, version in found.items()))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def disk(place: Path) -> Iterator[CheckResult]:
    """Space and inodes where the state lies, or is to lie."""
    there = next(each for each in (place, *place.parents) if each.exists())
    stat = os.statvfs(there)
    free, inodes = stat.f_bavail * stat.f_frsize, stat.f_favail
    detail = f"{sized(free)} free at {place}"
    cure = f"df -h {shell_word(str(there))}"
    if free < NO_SPACE:
        yield wrong("disk", f"only {detail}", cure, Code.PASSING)
    else:
        yield warning("disk", f"only {detail}", cure) if free < LITTLE_SPACE else CheckResult("disk", detail)
    if stat.f_files == 0:  # btrfs and the like have as many as there is space for
        return
    detail, cure = f"{inodes:,} inodes free at {place}", f"df -i {shell_word(str(there))}"
    if inodes < NO_INODES:
        yield wrong("inodes", f"only {detail}", cure, Code.PASSING)
    else:
        yield (
            warning("inodes", f"only {detail}", cure)
            if inodes < FEW_INODES
            else CheckResult("inodes", detail)
        )


def credentials(environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """What systemd hands over (`LoadCredential=`), by name; nothing where it hands over nothing."""
    place = environ.get("CREDENTIALS_DIRECTORY")
    if place is None:
        return
    unreadable = [name for name in _names(place) if not os.access(f"{place}/{name}", os.R_OK)]
    if unreadable:
        # it hands them over when it starts a service, to the user of that service alone
        unit = shell_word(Path(place).name.removesuffix(".service"))
        cure = f"systemctl --user restart {unit}" if "/user/" in place else f"sudo systemctl restart {unit}"
        yield wrong("credentials", f"cannot be read: {', '.join(unreadable)}", cure, Code.USAGE)
    else:
        yield CheckResult("credentials", f"{place}: {', '.join(_names(place)) or 'none'}")


def _names(place: str) -> list[str]:
    return sorted(os.listdir(place))
