"""Needed programs that are not there, and how many tests they cost; logs as they are when nobody set them."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from kbsync.core.debugging import LOGGER
from kbsync.targets.local import embed
from tests import programs, warm


def pytest_configure(config: pytest.Config) -> None:
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # begun in the background, and handed on to children
        signal.signal(signal.SIGINT, signal.default_int_handler)
    embed._loaded = set()  # type: ignore[assignment] # the model stays for the tests to come
    config.addinivalue_line("markers", f"{programs.MARK}(*names): see tests/programs.py")


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


@pytest.fixture(autouse=True)
def logs_as_nobody_set_them() -> Iterator[None]:
    """What one test does to the logs, commands among them, is nothing to the next."""
    yield
    structlog.reset_defaults()
    logging.getLogger(LOGGER).setLevel(logging.NOTSET)
