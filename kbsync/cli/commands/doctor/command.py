"""`kbsync doctor`: runs the checks in parallel and prints a line for each result, with the fix."""

from __future__ import annotations

import enum
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kbsync import __version__
from kbsync.cli.context import choose, set_up_logs
from kbsync.cli.exit_codes import Code, code_of, printing_result, sentence_of, worst
from kbsync.cli.options import Choices, examples, json_option, shared_options
from kbsync.cli.output import Output, cells
from kbsync.config.places import read_only_mount
from kbsync.core.text import shell_word
from kbsync.dataclass import dataclass
from kbsync.file_systems import DISK_FAILED, has_failed

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.installation import Installation


LIMIT = 10.0
"""Time limit for all checks together, in seconds."""

DESCRIPTORS = 32
"""Number of files that the checks may have open at the same time."""


class Grade(enum.Enum):
    """The severity of a result."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check.

    `fix`: a command to paste, or what to change. `code`: the exit code that it causes.
    """

    subject: str
    detail: str
    grade: Grade = Grade.OK
    fix: str = ""
    code: Code = Code.MIRRORED


def warning(subject: str, detail: str, fix: str = "") -> CheckResult:
    """Return a warning about something that isn't a problem yet."""
    return CheckResult(subject, detail, Grade.WARNING, fix)


def wrong(subject: str, detail: str, fix: str, code: Code) -> CheckResult:
    """Return a problem that prevents kbsync from mirroring."""
    return CheckResult(subject, detail, Grade.WRONG, fix, code)


def failed_check(subject: str, error: Exception) -> CheckResult:
    """Return the result of a check that raised an error. An error that users can't cause is reported as a
    bug."""
    code = code_of(error)
    if code is None:
        return wrong(subject, f"could not be checked ({type(error).__name__}: {error})", "", Code.BROKEN)
    return wrong(subject, sentence_of(error), "", code)


def read_only(subject: str, path: Path, code: Code) -> CheckResult | None:
    """Return the problem if the file system that contains `path` is read-only."""
    if has_failed(path):
        return wrong(subject, f"{path}: {DISK_FAILED}", "sudo dmesg", code)
    if mount := read_only_mount(path):
        fix = f"sudo mount -o remount,rw {shell_word(str(mount))}"
        return wrong(subject, f"{path} is on a read-only file system", fix, code)
    return None


@dataclass(frozen=True, slots=True)
class Check:
    """A check of `kbsync doctor`.

    `run` yields results; results that arrive before an error or a timeout are kept. `mirror`: the mirror
    that the results are about, or "" for all. `fix_if_stuck`: what to do if the check takes too long.
    """

    subject: str
    run: Callable[[], Iterable[CheckResult]]
    mirror: str = ""
    fix_if_stuck: str = "check for a hung disk or network mount"


def run_checks(checks: Sequence[Check], limit: float = LIMIT) -> list[CheckResult]:
    """Return all results, in the order of the checks, within `limit` seconds.

    Each check runs in its own thread, because a thread that hangs on a disk or network can only be abandoned.
    """

    def run(check: Check, own_results: list[CheckResult | Exception]) -> None:
        try:
            for result in check.run():
                own_results.append(result)
        except Exception as error:
            # The thread may lack the memory to report it.
            own_results.append(error)

    results = [list[CheckResult | Exception]() for _ in checks]
    pairs = zip(checks, results, strict=True)
    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in pairs]
    # In parallel, because the user waits for all of them.
    until = time.monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    all_results = []
    for check, own_results, thread in zip(checks, results, threads, strict=True):
        # Check this before reading the results, so that the last result isn't lost.
        is_over = not thread.is_alive()
        listed = [
            failed_check(check.subject, result) if isinstance(result, Exception) else result
            for result in list(own_results)
        ]
        if not is_over:
            detail = f"no response within {limit:g} s"
            listed.append(wrong(check.subject, detail, check.fix_if_stuck, Code.PASSING))
        whose = f"{check.mirror}: " if check.mirror else ""
        all_results += [replace(result, subject=f"{whose}{result.subject}") for result in listed]
    return all_results


@click.command(
    epilog=examples("kbsync doctor", "kbsync doctor --json | jq '.checks[] | select(.result != \"ok\")'")
)
@json_option
@shared_options
def command(choices: Choices, as_json: bool) -> int:
    """Check everything kbsync needs: config, permissions, disk, kernel, model, network, clock, key, quota.

    Prints a line for each: ok, warning or wrong, with the fix. Changes nothing. Exits 0 if nothing is wrong,
    otherwise with the code that a pass would return.
    """
    from kbsync.state.db import find_descriptor_shortage

    set_up_logs(choices)
    # With fewer, each check would fail wherever it happens to need another one.
    shortage = find_descriptor_shortage(DESCRIPTORS)
    results = [failed_check("open files", shortage)] if shortage else run_checks(_checks(choices))
    code = worst(result.code for result in results)
    if any(result.code is Code.BROKEN for result in results):
        code = Code.BROKEN
    with printing_result(code):
        if as_json:
            rows = [
                {
                    "name": result.subject,
                    "result": result.grade.value,
                    "detail": result.detail,
                    "cure": result.fix,
                }
                for result in results
            ]
            Output().json({"version": __version__, "checks": rows})
        else:
            _print(Output(), results, quiet=choices.quiet)
    return code


def _checks(choices: Choices) -> list[Check]:
    """Return all checks or, without a readable config, only those that don't need a config."""
    from kbsync.cli.commands.doctor import machine
    from kbsync.config.problems import ConfigError
    from kbsync.errors import UsageError

    general = [
        Check("versions", machine.versions),
        Check("credentials", partial(machine.credentials, os.environ)),
    ]
    try:
        return [*_checks_of(choose(choices, here=True, with_folders=True, mistyped=True)), *general]
    except UsageError as error:
        # The error for an invalid config has one problem per line; any other error is one problem.
        lines = str(error).splitlines()
        problems = lines if isinstance(error, ConfigError) else ["; ".join(lines)]
    refused = Check("config", lambda: [failed_check("config", UsageError(line)) for line in problems])
    try:
        rest = _checks_of(choose(choices, here=True, with_secrets=False, mistyped=True))
    except UsageError:
        return [refused, *general]
    return [refused, *(finding for finding in rest if finding.subject != refused.subject), *general]


def _checks_of(installation: Installation) -> list[Check]:
    from kbsync.cli.commands.doctor import machine, service

    mirrors = installation.mirrors

    def check_service(mirror: MirrorConfig) -> Check:
        check = Check("service", partial(service.service, installation, mirror), mirror.name)
        is_on_disk = mirror.target.folder(installation.state_dir, mirror.name) is not None
        if is_on_disk and not mirror.target.services:
            return check
        return replace(check, fix_if_stuck="check whether the service or the network is overloaded")

    return [
        Check("config", partial(machine.config, installation)),
        Check("state", partial(machine.state, installation)),
        Check("copies", partial(machine.copies, installation)),
        Check("disk", partial(machine.disk, installation.state_dir)),
        Check("listener", partial(machine.listener, installation)),
        Check("inotify", partial(machine.inotify, mirrors)),
        Check("embedding model", partial(machine.models, mirrors)),
        *(Check("folder", partial(machine.folder, installation, each), each.name) for each in mirrors),
        *map(check_service, mirrors),
        *(Check("promises", partial(service.promises, each), each.name) for each in mirrors),
        *(Check("cluster", partial(service.cluster, each), each.name) for each in mirrors),
    ]


def _print(output: Output, results: Sequence[CheckResult], *, quiet: bool) -> None:
    """Print a line for each result or, with `quiet`, only for those that aren't ok."""
    from kbsync.core.text import printable
    from kbsync.engine.status import only_resumes

    styles = {Grade.OK: output.green, Grade.WARNING: output.yellow, Grade.WRONG: output.red}
    width = max(cells(result.subject) for result in results)
    for result in results:
        if quiet and result.grade is Grade.OK:
            continue
        room = " " * (width - cells(result.subject))
        label = "then run" if only_resumes(result.fix) else "fix"
        text = f"{result.detail}; {label}: {result.fix}" if result.fix else result.detail
        grade = styles[result.grade](f"{result.grade.value:7}")
        output.line(f"{grade}  {result.subject}{room}  {printable(text)}")
