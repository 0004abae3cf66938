"""Provides one parser, in its sandbox, for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kbsync.index.fence.parser import Parser


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parser]:
    parser = Parser(tmp_path_factory.mktemp("spool"))
    yield parser
    parser.close()
