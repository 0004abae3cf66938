"""Reports missing programs and how many tests they skip; resets logging between tests."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import structlog

from kbsync.index import embed
from kbsync.logs import DEBUG_LOGGER
from tests import programs, share, warm


def pytest_configure(config: pytest.Config) -> None:
    if importlib.util.find_spec("kbsync_standin") is None:
        pytest.exit("the stand-in servers are not installed: tools/setup.sh '.[dev]' does it", returncode=4)
    # A run that is begun in the background ignores SIGINT, one under nohup SIGHUP, and children would, too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # a handler is not handed on, and this run stays
        signal.signal(signal.SIGHUP, lambda *_: None)
    os.umask(0o022)  # what tests make is for other users to read, unless they say otherwise
    share.choose_seed()
    embed._loaded = set()  # type: ignore[assignment] # the model stays for the tests to come
    config.addinivalue_line("markers", f"{programs.MARK}(*names): see tests/programs.py")
    config.addinivalue_line("markers", f"{share.MARK}(*strata): see tests/share.py")
    config.addinivalue_line("markers", f"{share.LONG}: see tests/share.py")


AGAIN = 10.0
"""Seconds after which what outlived its time limit is interrupted once more."""


class OutOfTime(BaseException):
    """A test has no end. Nothing that hypothesis would take for a failure of the example, and try again."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(settings: Any) -> Generator[None, object, object]:
    """The alarm rings until the test ends: the first may be swallowed by a task that nobody waits for."""
    armed = yield
    if signal.getitimer(signal.ITIMER_REAL)[0]:
        tell: Any = signal.getsignal(signal.SIGALRM)

        def ring(*about: Any) -> None:
            try:
                tell(*about)
            except pytest.fail.Exception as failure:
                raise OutOfTime(str(failure)) from None

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, AGAIN)
    return armed


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    yield
    if not _names_a_test(metafunc.config):
        share.draw_early(metafunc)


def _names_a_test(config: pytest.Config) -> bool:
    """What is asked for by its name is run, whatever the share."""
    return any("::" in str(word) for word in config.args)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _names_a_test(config):
        return
    left_out = share.left_out(items)
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]


def pytest_collection_finish() -> None:
    """What is here for good, all tests among it, is not looked through with each collection."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    warm.end()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers(programs.MARK):
        programs.look_for(mark.args)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    for line in programs.summary(reason.removeprefix("Skipped: ") for reason in reasons):
        terminalreporter.write_line(line)
    terminalreporter.write_line(share.summary())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL of this process's own; each test makes a database for itself."""
    from tests.postgres.server import Server

    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def logs_as_nobody_set_them() -> Iterator[None]:
    """What one test does to the logs, commands among them, is nothing to the next."""
    yield
    structlog.reset_defaults()
    logging.getLogger(DEBUG_LOGGER).setLevel(logging.NOTSET)
