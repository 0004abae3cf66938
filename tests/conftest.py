"""Reports missing programs and how many tests they skip; resets logging between tests."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from kbsync.index import embed
from kbsync.logs import DEBUG_LOGGER
from tests import programs, share, warm

REMOVED_SUFFIXES = ("_proxy", "_api_key")
REMOVED_PREFIXES = ("SSL_CERT_", "GIT_", "KBSYNC_CONFIG", "POSIXLY_CORRECT")
"""Suffixes and prefixes of environment variables that would change results.

For example, a git hook sets `GIT_DIR`, and users of a service set its key.
"""


def pytest_configure(config: pytest.Config) -> None:
    if importlib.util.find_spec("kbsync_standin") is None:
        pytest.exit("the stand-in servers are not installed: tools/setup.sh '.[dev]' does it", returncode=4)
    # A run in the background ignores SIGINT, one under nohup SIGHUP, and its children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # children inherit no handler
        signal.signal(signal.SIGHUP, lambda *_: None)
    for name in list(os.environ):
        if name.lower().endswith(REMOVED_SUFFIXES) or name.startswith(REMOVED_PREFIXES):
            del os.environ[name]
    os.environ["TERM"] = "xterm"  # for the tests at a terminal; a scheduled job has none
    os.umask(0o022)  # tests create files that other users can read, unless they say otherwise
    # How long an example takes depends on the machine.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    share.choose_seed()
    embed._loaded = set()  # type: ignore[assignment] # the model stays for the tests to come
    config.addinivalue_line("markers", f"{programs.MARK}(*names): see tests/programs.py")
    config.addinivalue_line("markers", f"{share.MARK}(*strata): see tests/share.py")
    config.addinivalue_line("markers", f"{share.LONG}: see tests/share.py")


AGAIN = 10.0
"""Seconds until a test that outlived its time limit is interrupted again."""


class OutOfTime(BaseException):
    """A test doesn't end. Not an `Exception`, so that hypothesis doesn't take it for a failing example and
    retry.
    """


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(settings: Any) -> Generator[None, object, object]:
    """Repeat the alarm until the test ends: a task that nobody awaits may swallow the first."""
    armed = yield
    if signal.getitimer(signal.ITIMER_REAL)[0]:
        raise_timeout: Any = signal.getsignal(signal.SIGALRM)

        def ring(*about: Any) -> None:
            try:
                raise_timeout(*about)
            except pytest.fail.Exception as failure:
                raise OutOfTime(str(failure)) from None

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, AGAIN)
    return armed


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, object, object]:
    """Delay the alarm while pytest writes its report, where an exception would end the whole run."""
    remaining, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        return (yield)
    finally:
        if remaining:
            signal.setitimer(signal.ITIMER_REAL, max(remaining, AGAIN), AGAIN)


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    yield
    if not _names_a_test(metafunc.config):
        share.draw_early(metafunc)


def _names_a_test(config: pytest.Config) -> bool:
    """Return whether a test was requested by name; it then runs whatever the share."""
    return any("::" in str(argument) for argument in config.args)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _names_a_test(config):
        return
    left_out = share.excluded_items(items)
    config.hook.pytest_deselected(items=left_out)
    excluded = set(left_out)
    items[:] = [item for item in items if item not in excluded]


def pytest_collection_finish() -> None:
    """Exclude all objects that exist now, the tests among them, from later garbage collections."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    warm.end()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers(programs.MARK):
        programs.require_programs(mark.args)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    for line in programs.summary(reason.removeprefix("Skipped: ") for reason in reasons):
        terminalreporter.write_line(line)
    terminalreporter.write_line(share.summary())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """Start a PostgreSQL for this process; each test creates its own database."""
    from tests.postgres.server import Server

    server = Server()
    yield server
    server.close()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Any]:
    """Run kbsync with a home and a folder of its own; its processes don't outlive the test."""
    from tests.cli.sandbox import Sandbox

    sandbox = Sandbox(tmp_path)
    yield sandbox
    sandbox.close()


@pytest.fixture(autouse=True)
def logs_as_nobody_set_them() -> Iterator[None]:
    """Restore logging after each test, which may change it by running commands."""
    yield
    structlog.reset_defaults()
    logging.getLogger(DEBUG_LOGGER).setLevel(logging.NOTSET)


@pytest.fixture
def in_shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time is that of Shanghai, eight hours ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
