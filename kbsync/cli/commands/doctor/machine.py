"""Checks of the machine: versions, disk space and inodes, watches, credentials that systemd hands over."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from kbsync import version_and_revision
from kbsync.cli.commands.doctor.command import CheckResult, warning, wrong
from kbsync.cli.exit_codes import Code
from kbsync.cli.folder_contents import look_through
from kbsync.config.model import MirrorConfig
from kbsync.core.model import Limits
from kbsync.core.selection import Rules
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
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        cure = installing(*missing)
        yield wrong("libraries", f"not installed: {', '.join(missing)}", cure, Code.USAGE)
    else:
        yield CheckResult("libraries", ", ".join(found))


def disk(place: Path) -> Iterator[CheckResult]:
    """Space and inodes where the state lies, or is to lie."""
    there = next(each for each in (place, *place.parents) if each.exists())
    stat = os.statvfs(there)
    free, inodes = stat.f_bavail * stat.f_frsize, stat.f_favail
    detail, cure = f"{sized(free)} free at {place}", f"df -h {shell_word(str(there))}"
    if free < NO_SPACE:
        yield wrong("disk", f"only {detail}", cure, Code.PASSING)
    elif free < LITTLE_SPACE:
        yield warning("disk", f"only {detail}", cure)
    else:
        yield CheckResult("disk", detail)
    if stat.f_files == 0:  # btrfs and the like have as many as there is space for
        return
    detail, cure = f"{inodes:,} inodes free at {place}", f"df -i {shell_word(str(there))}"
    if inodes < NO_INODES:
        yield wrong("inodes", f"only {detail}", cure, Code.PASSING)
    elif inodes < FEW_INODES:
        yield warning("inodes", f"only {detail}", cure)
    else:
        yield CheckResult("inodes", detail)


def inotify(mirrors: Sequence[MirrorConfig]) -> Iterator[CheckResult]:
    """The kernel's limits suffice for all folders together."""
    from kbsync.config.places import network_file_system
    from kbsync.source.limits import cure, read_limits, roomy

    watched = [mirror for mirror in mirrors if mirror.observer != "polling" and mirror.folder.is_dir()]
    for mirror in list(watched):
        kind = network_file_system(mirror.folder)
        if kind is not None and mirror.observer == "auto":
            watched.remove(mirror)
            yield CheckResult(
                "inotify", f"{mirror.folder} is on {kind}, which tells of no changes; it is polled"
            )
    looks = (look_through(each.folder, Rules(each.include, each.exclude, Limits())) for each in watched)
    limits, needed = read_limits(), sum(contents.folders for contents in looks)
    if limits.watches is None:
        yield warning("inotify", "its limits cannot be read; folders may be polled")
    elif needed * 1.2 >= limits.watches:  # other programs of the user need some, too
        detail = f"{limits.watches:,} watches are allowed and {needed:,} folders need one; some may be polled"
        yield warning("inotify", detail, cure("max_user_watches", roomy(needed)))
    else:
        yield CheckResult("inotify", f"{needed:,} of {limits.watches:,} watches needed")
    if limits.instances is not None and limits.instances < max(16, 2 * len(watched)):
        detail = f"only {limits.instances} instances are allowed to all programs of a user"
        yield warning("inotify", detail, cure("max_user_instances", max(1024, 2 * limits.instances)))


def credentials(environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """What systemd hands over (`LoadCredential=`), by name; nothing where it hands over nothing."""
    place = environ.get("CREDENTIALS_DIRECTORY")
    if place is None:
        return
    names = sorted(os.listdir(place))
    unreadable = [name for name in names if not os.access(f"{place}/{name}", os.R_OK)]
    if unreadable:
        # it hands them over when it starts a service, to the user of that service alone
        unit = shell_word(Path(place).name.removesuffix(".service"))
        cure = f"systemctl --user restart {unit}" if "/user/" in place else f"sudo systemctl restart {unit}"
        yield wrong("credentials", f"cannot be read: {', '.join(unreadable)}", cure, Code.USAGE)
    else:
        yield CheckResult("credentials", f"{place}: {', '.join(names) or 'none'}")
